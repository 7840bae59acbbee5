"""The table of a sweep while it runs: the best trials so far, and those that ended last. Pure; knows no terminal."""

from collections.abc import Sequence

import numpy as np

from raymlops.train.metrics import higher_is_better
from raymlops.train.sweep import Result

__all__ = ["standings"]

_BEST, _LAST = 5, 3


def standings(ended: Sequence[Result], metric: str) -> list[list[str]]:
    """Return the names of the columns, then a row a trial: the five best ones in order, then the three last others.

    Of the options only those are shown that differ between trials.
    """
    ended = [*{one.index: one for one in ended}.values()]  # of the rungs of a trial the highest
    sign = -1.0 if higher_is_better(metric) else 1.0
    judged = [one for one in ended if np.isfinite(one.judged(metric))]
    best = sorted(judged, key=lambda one: (one.share < 1, sign * one.judged(metric), one.index))[:_BEST]
    last = [one for one in ended[-_BEST - _LAST :] if one not in best][-_LAST:]
    differing = _differing(ended)
    rows = [["", "trial", "trainer", metric, "seconds", "options"]]
    for place, one in enumerate([*best, *last], start=1):
        told = f"{one.judged(metric):.4f}" if not one.cause else "failed"
        part = f" of {one.share:.2g}" if one.share < 1 else ""
        options = ", ".join(f"{name} {_short(one.options[name])}" for name in differing if name in one.options)
        rows.append([
            str(place) if place <= len(best) else "", str(one.index), one.trainer, told + part, f"{one.seconds:.1f}",
            one.cause or options,
        ])  # fmt: skip
    return rows


def _differing(ended: Sequence[Result]) -> list[str]:
    seen: dict[str, set[str]] = {}
    for one in ended:
        for name, value in one.options.items():
            seen.setdefault(name, set()).add(repr(value))
    return [name for name, values in seen.items() if len(values) > 1]


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
