"""Run a sweep to its end: what has ended already is read, the rest is run. Knows nothing of Ray or of MLflow.

The folders of the trials are the journal of the sweep, each written whole or not at all. What is tried next follows
from them, so the same command after any crash comes to the same table.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol

from raymlops.errors import StageFailed
from raymlops.spec import TrainSpec
from raymlops.train.asha import Ladder, ended, next_trial
from raymlops.train.fit import Setting
from raymlops.train.sweep import Result, Trial, batches
from raymlops.train.trial import keep_failure, read_result, sweep_of, try_trial

__all__ = ["Runner", "Workers", "run_sweep"]

_ATTEMPTS = 2  # of a trial that raises, with the same configuration; then it has failed


class Workers(Protocol):
    """What runs trials side by side (`on_ray.Pool`)."""

    def put(self, trials: Sequence[Trial]) -> None:
        """Let these trials be run."""
        ...

    def ended(self) -> tuple[Trial, Result | None, str]:
        """Wait for a trial to end; without a result the text says why it never will."""
        ...


@dataclass(slots=True, kw_only=True)
class Runner:
    """Runs trials: a single one here, more of them by workers, who are only called when they are needed.

    ``setting`` reads the rows, ``hire`` gets workers, ``heard`` is told of each trial that ended. Without ``here`` a
    single one is also run by workers.
    """

    sweep: Path
    setting: Callable[[], Setting]
    hire: Callable[[], AbstractContextManager[Workers]]
    heard: Callable[[Result], None]
    here: bool = True
    _stack: ExitStack = field(default_factory=ExitStack)
    _workers: Workers | None = None
    _tries: Counter[tuple[int, int]] = field(default_factory=Counter)

    def __enter__(self) -> "Runner":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)  # of a cluster that is gone it is the connection that says so

    def read(self, trial: Trial) -> Result | None:
        """Return how a trial ended in this or an earlier run of the sweep; None if it has not."""
        return read_result(sweep_of(self.sweep, trial), trial.index, trial.rung)

    def run(self, trials: Sequence[Trial]) -> list[Result]:
        """Return how the trials ended, in their order. Raise StageFailed when the machine keeps one from ending."""
        left = [trial for trial in trials if self.read(trial) is None]
        if len(left) == 1 and self.here and self._workers is None:
            # Workers take longer to start than one trial gains by them.
            while not self.settled(left[0], try_trial(left[0], self.setting()), ""):
                pass
        elif left:
            self.begin(left)
            waiting = len(left)
            while waiting:
                waiting -= self.next_settled() is not None
        found = [self.read(trial) for trial in trials]
        return [one for one in found if one is not None]

    def begin(self, trials: Sequence[Trial]) -> None:
        """Let workers run these trials."""
        if self._workers is None:
            self._workers = self._stack.enter_context(self.hire())
        self._workers.put(trials)

    def next_settled(self) -> Trial | None:
        """Wait for a worker; return the trial that it has ended for good, None if that is tried once more."""
        assert self._workers is not None
        trial, result, death = self._workers.ended()
        if self.settled(trial, result, death):
            return trial
        self._workers.put([trial])
        return None

    def settled(self, trial: Trial, result: Result | None, death: str) -> bool:
        """Return whether a trial has ended for good: it went well, or failed as often as it may."""
        key = trial.index, trial.rung
        self._tries[key] += 1
        cause = death or (result.cause if result else "")
        if cause and not death and self._tries[key] < _ATTEMPTS:
            return False
        if cause and result is not None and not result.lasting:
            raise StageFailed(f"train: trial {trial.index} could not be run: {cause}; mend that, the same goes on")
        if cause:
            result = keep_failure(trial, self.setting(), cause)
        assert result is not None
        if not trial.again:
            self.heard(result)
        return True


def run_sweep(train: TrainSpec, metric: str, runner: Runner) -> list[Result]:
    """Return how every trial of the sweep ended, each on its highest rung, in the order of the trials."""
    if train.halving is not None and train.halving.asynchronous:
        found = _as_they_end(train, metric, runner)
    else:
        found = _in_batches(train, metric, runner)
    return [found[index] for index in sorted(found)]


def _in_batches(train: TrainSpec, metric: str, runner: Runner) -> dict[int, Result]:
    found: dict[int, Result] = {}
    steps = batches(train, metric)
    batch = next(steps, None)
    while batch is not None:
        results = runner.run(batch)
        found |= {result.index: result for result in results}
        try:
            batch = steps.send(results)
        except StopIteration:
            batch = None
    return found


def _as_they_end(train: TrainSpec, metric: str, runner: Runner) -> dict[int, Result]:
    """Keep ``train.generation`` trials under way; each that ends makes room for the next."""
    ladder, under_way = Ladder(train=train, metric=metric), 0
    while True:
        trial: Trial | None = None
        while under_way < train.generation:
            ladder, trial = next_trial(ladder)
            if trial is None:
                break
            known = runner.read(trial)
            if known is not None:
                ladder = ended(ladder, known)
                continue
            runner.begin([trial])
            under_way += 1
        if not under_way:
            break
        done = runner.next_settled()
        if done is not None:
            under_way -= 1
            result = runner.read(done)
            assert result is not None
            ladder = ended(ladder, result)
    found: dict[int, Result] = {}
    for (index, rung), result in ladder.results.items():
        if index not in found or found[index].rung < rung:
            found[index] = result
    return found
