"""The trials of a sweep and what is decided between them. Pure: the same section and results give the same trials.

A search proposes points in generations, and is told how they ended in the order of the trials, never in the order in
which they ended. So a sweep does not depend on how many run side by side, or on which is first.
"""

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from raymlops.errors import SpecError
from raymlops.plugins import build
from raymlops.protocols import Search, Trainer
from raymlops.spec import HalvingSpec, TrainSpec
from raymlops.train.metrics import higher_is_better
from raymlops.train.seeds import seed_of
from raymlops.values import Coordinate, JsonValue, Told

__all__ = [
    "Batches",
    "Result",
    "Trial",
    "batches",
    "best",
    "best_of_each",
    "first_batch",
    "promoted",
    "proposed",
    "search_of",
    "shares",
    "told",
    "trainer_of",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One configuration, and how much of its full length it is given: ``share``, of rung number ``rung``.

    ``seed`` comes from the sweep's seed and the index alone; ``point`` is where in the space the options lie.
    ``again``: the trial is run a second time, and its files lie apart.
    """

    index: int
    trainer: str
    options: dict[str, JsonValue]
    seed: int
    point: dict[str, Coordinate]
    rung: int = 0
    share: float = 1.0
    again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a trial ended: ``metrics`` on the validation rows, or the ``cause`` of its failure.

    ``folds`` are the metrics of each fold, where there are some: then the validation rows took no part in the choice.
    ``options`` and ``seed`` are the trial's; ``params`` have what was found during the fit pinned. A failure is
    ``lasting`` unless it was the machine's: a disk, a memory that was full.
    """

    index: int
    trainer: str
    options: dict[str, JsonValue]
    seed: int
    params: dict[str, JsonValue]
    metrics: dict[str, float]
    seconds: float
    cause: str = ""
    lasting: bool = True
    rung: int = 0
    share: float = 1.0
    folds: Sequence[Mapping[str, float]] = ()

    def judged(self, metric: str) -> float:
        """Return the value by which trials are compared: of the validation rows, or the mean of the folds; else NaN."""
        if self.folds and metric in self.metrics:
            return float(np.mean([fold.get(metric, np.nan) for fold in self.folds]))
        return self.metrics.get(metric, np.nan)


Batches = Generator[Sequence[Trial], Sequence[Result], None]


def batches(train: TrainSpec, metric: str) -> Batches:
    """Yield trials to run, in any order, and be sent how they ended, in theirs, until the sweep is over.

    Without halving a batch is a generation; with it a rung of one. What does not look back is one generation. Raise
    SpecError when a value does not fit the trainer, or the space not the search.
    """
    search = search_of(train)
    past: dict[str, list[Told]] = {name: [] for name in train.trainers}
    trials: list[Trial] = []
    while generation := proposed(train, search, trials, past):
        trials += generation
        ended = yield from _rungs(train.halving, generation, metric)
        for trial in generation:
            past[trial.trainer].append(told(trial, ended[trial.index], metric))


def first_batch(train: TrainSpec) -> Sequence[Trial]:
    """Return the trials that are decided before any has run; raise SpecError as `batches` does."""
    return next(batches(train, "logloss"), ())


def search_of(train: TrainSpec) -> Search:
    """Return the search that the section names."""
    made: Search = build("raymlops.train.searches", train.search, where="train.search")
    return made


def proposed(
    train: TrainSpec, search: Search, before: Sequence[Trial], past: Mapping[str, Sequence[Told]]
) -> list[Trial]:
    """Return the generation after the trials `before`, of which `past` tells; none when every trainer has had its own.

    Trainers take turns, so that a sweep which is cut short has tried each of them.
    """
    points: dict[str, Sequence[dict[str, Coordinate]]] = {}
    had = Counter(trial.trainer for trial in before)
    slots = _slots(train, had)
    if search.looks_back():
        slots = slots[: train.generation]
    for name in dict.fromkeys(slots):
        space = {option: one.dimension for option, one in train.trainers[name].space.items()}
        points[name] = search.propose(
            space, past[name], start=had[name], count=slots.count(name), seed=seed_of(train.seed, "search", name)
        )
    waiting = {name: iter(found) for name, found in points.items()}
    taken = [(name, point) for name in slots if (point := next(waiting[name], None)) is not None]
    return [_trial(train, number, name, point) for number, (name, point) in enumerate(taken, start=len(before))]


def told(trial: Trial, result: Result, metric: str) -> Told:
    """Return what a search is told of a trial."""
    value = result.judged(metric)
    loss = float(-value if higher_is_better(metric) else value) if np.isfinite(value) else None
    return Told(point=trial.point, loss=loss, share=result.share)


def shares(halving: HalvingSpec | None) -> list[float]:
    """Return how much of a full trial each rung gives, the last one all of it."""
    if halving is None:
        return [1.0]
    return [float(halving.factor) ** (rung - halving.rungs + 1) for rung in range(halving.rungs)]


def promoted(results: Sequence[Result], metric: str, count: int) -> list[int]:
    """Return the indices of the best ``count`` results, ascending; those without the metric never go on."""
    sign = -1.0 if higher_is_better(metric) else 1.0
    judged = [result for result in results if np.isfinite(result.judged(metric))]
    judged.sort(key=lambda result: (sign * result.judged(metric), result.index))
    return sorted(result.index for result in judged[:count])


def trainer_of(trial: Trial) -> Trainer:
    """Return the trainer with the trial's options and share."""
    options: JsonValue = {trial.trainer: trial.options}
    made = build("raymlops.train.trainers", options, where=f"train.trainers (trial {trial.index})")
    assert isinstance(made, Trainer)
    return made if trial.share == 1 else made.shortened(trial.share)


def best(results: Sequence[Result], metric: str) -> Result | None:
    """Return the full trial with the best metric, the first of equals; None if none has it."""
    sign = -1.0 if higher_is_better(metric) else 1.0
    judged = [one for one in results if one.share == 1 and np.isfinite(one.judged(metric))]
    return min(judged, key=lambda result: (sign * result.judged(metric), result.index), default=None)


def best_of_each(results: Sequence[Result], metric: str) -> dict[str, Result]:
    """Return for each trainer its best result."""
    names = dict.fromkeys(result.trainer for result in results)
    found = {name: best([r for r in results if r.trainer == name], metric) for name in names}
    return {name: result for name, result in found.items() if result is not None}


def _rungs(
    halving: HalvingSpec | None, trials: Sequence[Trial], metric: str
) -> Generator[Sequence[Trial], Sequence[Result], dict[int, Result]]:
    """Run rung after rung, each with the best of the one below (synchronous successive halving; Jamieson, 2016)."""
    ended: dict[int, Result] = {}
    alive = list(trials)
    for rung, share in enumerate(shares(halving)):
        results = yield [replace(trial, rung=rung, share=share) for trial in alive]
        ended |= {result.index: result for result in results}
        if halving is not None:
            kept = promoted(results, metric, max(1, len(trials) // halving.factor ** (rung + 1)))
            alive = [trial for trial in alive if trial.index in kept]
    return ended


def _slots(train: TrainSpec, had: Mapping[str, int]) -> list[str]:
    """Return whose turn it is, from now to the end of the sweep."""
    turns = max(body.trials for body in train.trainers.values())
    return [
        name for turn in range(turns) for name, body in train.trainers.items() if had.get(name, 0) <= turn < body.trials
    ]


def _trial(train: TrainSpec, index: int, name: str, point: dict[str, Coordinate]) -> Trial:
    body = train.trainers[name]
    drawn = {option: body.space[option].value(at) for option, at in sorted(point.items())}
    seed = seed_of(train.seed, "trial", index)
    trial = Trial(index=index, trainer=name, options={**body.options, **drawn}, seed=seed, point=point)
    try:
        trainer = trainer_of(trial)
        if train.halving is not None:
            trainer.shortened(shares(train.halving)[0])
    except SpecError as error:
        raise SpecError(*(f"train.trainers.{name}.space: {problem}" for problem in error.problems)) from error
    return trial
