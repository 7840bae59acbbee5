"""The trials of a sweep, decided before any of them runs. Pure: the same section gives the same trials."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raymlops.errors import SpecError
from raymlops.plugins import build
from raymlops.protocols import Trainer
from raymlops.spec import TrainSpec
from raymlops.train.metrics import higher_is_better
from raymlops.values import JsonValue

__all__ = ["Result", "Trial", "best", "best_of_each", "trainer_of", "trials"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One configuration; ``seed`` comes from the sweep's seed and the index alone."""

    index: int
    trainer: str
    options: dict[str, JsonValue]
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a trial ended: ``metrics`` on the validation rows, or the ``cause`` of its failure."""

    index: int
    trainer: str
    params: dict[str, JsonValue]
    metrics: dict[str, float]
    seconds: float
    cause: str = ""


def trials(train: TrainSpec) -> list[Trial]:
    """Return every trial of the sweep: random search, each trial with a generator of its own.

    Numbering runs over the trainers in turn, so that a sweep which is cut short has tried each of them.
    Raise SpecError when a drawn value does not fit the trainer.
    """
    turns = max(body.trials for body in train.trainers.values())
    order = [name for turn in range(turns) for name, body in train.trainers.items() if turn < body.trials]
    return [_trial(train, index, name) for index, name in enumerate(order)]


def trainer_of(trial: Trial) -> Trainer:
    """Return the trainer with the trial's options."""
    options: JsonValue = {trial.trainer: trial.options}
    made = build("raymlops.train.trainers", options, where=f"train.trainers (trial {trial.index})")
    assert isinstance(made, Trainer)
    return made


def best(results: Sequence[Result], metric: str) -> Result | None:
    """Return the result with the best metric, the first of equals; None if none has it."""
    sign = -1.0 if higher_is_better(metric) else 1.0
    judged = [result for result in results if np.isfinite(result.metrics.get(metric, np.nan))]
    return min(judged, key=lambda result: (sign * result.metrics[metric], result.index), default=None)


def best_of_each(results: Sequence[Result], metric: str) -> dict[str, Result]:
    """Return for each trainer its best result."""
    names = dict.fromkeys(result.trainer for result in results)
    found = {name: best([r for r in results if r.trainer == name], metric) for name in names}
    return {name: result for name, result in found.items() if result is not None}


def _trial(train: TrainSpec, index: int, name: str) -> Trial:
    body = train.trainers[name]
    random = np.random.default_rng(np.random.SeedSequence(train.seed, spawn_key=(index,)))
    drawn = {option: distribution.draw(random) for option, distribution in sorted(body.space.items())}
    trial = Trial(
        index=index,
        trainer=name,
        options={**body.options, **drawn},
        seed=int(random.integers(2**31)),
    )
    try:
        trainer_of(trial)
    except SpecError as error:
        raise SpecError(*(f"train.trainers.{name}.space: {problem}" for problem in error.problems)) from error
    return trial
