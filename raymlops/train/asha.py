"""Successive halving without barriers: what runs next is decided whenever a trial ends (ASHA; Li and others, 2020).

Pure, and yet not repeatable: which trials have ended by then depends on how fast each was. Knows nothing of workers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from raymlops.protocols import Search
from raymlops.spec import TrainSpec
from raymlops.train.sweep import Result, Trial, promoted, proposed, search_of, shares, told
from raymlops.values import Told

__all__ = ["Ladder", "ended", "next_trial"]

Key = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """What has begun and ended so far, by index and rung, in the order of it."""

    train: TrainSpec
    metric: str
    trials: tuple[Trial, ...] = ()
    begun: frozenset[Key] = frozenset()
    results: Mapping[Key, Result] = field(default_factory=dict)


def ended(ladder: Ladder, result: Result) -> Ladder:
    """Return the ladder after a trial has ended on a rung."""
    return replace(ladder, results={**ladder.results, (result.index, result.rung): result})


def next_trial(ladder: Ladder) -> tuple[Ladder, Trial | None]:
    """Return what to run next: the highest promotion that is due, else a new trial; None while there is neither.

    Of the trials that have ended on a rung, the best 1/factor go on.
    """
    halving = ladder.train.halving
    assert halving is not None, "only a sweep with halving has rungs"
    lengths = shares(halving)
    for rung in reversed(range(len(lengths) - 1)):
        there = [result for (_, of), result in ladder.results.items() if of == rung]
        for index in promoted(there, ladder.metric, len(there) // halving.factor):
            if (index, rung + 1) not in ladder.begun:
                trial = replace(ladder.trials[index], rung=rung + 1, share=lengths[rung + 1])
                return replace(ladder, begun=ladder.begun | {(index, rung + 1)}), trial
    return _new(ladder, search_of(ladder.train), lengths[0])


def _new(ladder: Ladder, search: Search, share: float) -> tuple[Ladder, Trial | None]:
    begun = {index for index, _ in ladder.begun}
    waiting = [trial for trial in ladder.trials if trial.index not in begun]
    if not waiting:
        one = ladder.train.model_copy(update={"generation": 1})
        waiting = proposed(one, search, ladder.trials, _past(ladder))
        ladder = replace(ladder, trials=(*ladder.trials, *waiting))
    if not waiting:
        return ladder, None
    trial = replace(waiting[0], rung=0, share=share)
    return replace(ladder, begun=ladder.begun | {(trial.index, 0)}), trial


def _past(ladder: Ladder) -> Mapping[str, Sequence[Told]]:
    past: dict[str, list[Told]] = {name: [] for name in ladder.train.trainers}
    for index, result in sorted({index: result for (index, _), result in ladder.results.items()}.items()):
        past[ladder.trials[index].trainer].append(told(ladder.trials[index], result, ladder.metric))
    return past
