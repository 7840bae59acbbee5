"""Drift of 20 columns from profiles, against scipy and numpy on the raw rows.

    python benchmarks/monitor.py [--quick] [--json]

A line a number: what, ours, the rival's, the ratio, the bar, met or missed. The rival keeps the reference's rows and
runs `scipy.stats.ks_2samp` and a PSI over `numpy.histogram` for each column, as drift libraries do. The sharper rival
keeps the reference's rows sorted and needs numpy only. Ours keeps the profile.
Rounds are interleaved, the numbers are medians, and every round has rows of its own. Exit 1 when a bar is missed.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from line import Line, arguments, print_lines
from scipy.stats import ks_2samp

from raymlops.codec import dumps
from raymlops.monitor.drift_tests.ks import Ks
from raymlops.monitor.drift_tests.psi import Psi
from raymlops.sketch import ColumnProfile, merge, profile_numbers
from raymlops.values import Float64

T = TypeVar("T")


def main() -> int:
    """Measure, print a line a number, and return the exit code."""
    given = arguments(__doc__, quick="4 columns of 50 thousand rows, not 20 of a million")
    columns, rows, rounds = (4, 50_000, 3) if given.quick else (20, 1_000_000, 5)
    lines = measure(columns=columns, rows=rows, rounds=rounds, quick=given.quick)
    return print_lines(lines, as_json=given.json)


def measure(*, columns: int, rows: int, rounds: int, quick: bool) -> list[Line]:
    """Return every line. Few rows make for smaller bars: a profile has a fixed cost."""
    reference = _columns(np.random.default_rng(0), columns, rows, shift=0.0)
    ordered = [np.sort(column) for column in reference]
    kept = [profile_numbers(column) for column in reference]
    made = []
    for turn in range(rounds):
        current = _columns(np.random.default_rng(turn + 1), columns, rows, shift=0.1)
        made.append(_round(reference, ordered, kept, current, ours_first=turn % 2 == 1))
    seconds = {name: statistics.median(one[name] for one in made) for name in made[0]}
    whole = seconds["profile"] + seconds["compare"]
    raw, profile = float(sum(column.nbytes for column in reference)), float(sum(len(p.sketch) for p in kept))
    text = float(len(dumps([p.to_json() for p in kept])))
    worst = {name: max(one[name] for one in made) for name in ("ks", "psi")}
    return [
        _less("drift of a new period, profiling it included", whole, seconds["rival"], 1.2 if quick else 2.0, "s"),
        _less("the same, against a sorted reference", whole, seconds["sorted"], 0.8 if quick else 1.0, "s"),
        _less("drift of a period that has its profile", seconds["compare"], seconds["rival"], 5 if quick else 100, "s"),
        _less("kept of the reference in memory", profile, raw, 10 if quick else 400, "bytes"),
        _less("kept of the reference in profile.json", text, raw, 5 if quick else 200, "bytes"),
        _merged(reference[0]),
        # The rival is exact: the numbers are the largest measured distance from it and the largest allowed.
        _less("largest error of ks, against the allowed", worst["ks"], 0.001, 1.0, "of 1"),
        _less("largest error of psi, against the allowed", worst["psi"], 0.005, 1.0, "psi"),
    ]


def _round(
    reference: list[Float64],
    ordered: list[Float64],
    kept: list[ColumnProfile],
    current: list[Float64],
    *,
    ours_first: bool,
) -> dict[str, float]:
    """Return the seconds of each side, and the largest distance of ours from the rival's numbers."""

    def ours() -> None:
        profiles, taken["profile"] = _timed(lambda: [profile_numbers(column) for column in current])
        found["ours"], taken["compare"] = _timed(lambda: [_ours(a, b) for a, b in zip(kept, profiles, strict=True)])

    def rivals() -> None:
        found["rival"], taken["rival"] = _timed(lambda: [_rival(a, b) for a, b in zip(reference, current, strict=True)])
        _, taken["sorted"] = _timed(lambda: [_sorted_rival(a, b) for a, b in zip(ordered, current, strict=True)])

    taken: dict[str, float] = {}
    found: dict[str, list[tuple[float, float]]] = {}
    # What runs first must not be favoured or punished.
    for side in (ours, rivals) if ours_first else (rivals, ours):
        side()
    off = [[abs(a - b) for a, b in zip(*pair, strict=True)] for pair in zip(found["ours"], found["rival"], strict=True)]
    return {**taken, "ks": max(ks for ks, _ in off), "psi": max(psi for _, psi in off)}


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    start = time.perf_counter()
    made = work()
    return made, time.perf_counter() - start


def _ours(reference: ColumnProfile, current: ColumnProfile) -> tuple[float, float]:
    return Ks().compare(reference, current).distance, Psi().compare(reference, current).distance


def _merged(column: Float64) -> Line:
    """A hundred parts, merged, against the profile of all rows: the largest error of a rank that each states."""
    parts = merge(*(profile_numbers(part) for part in np.array_split(column, 100)))
    whole = profile_numbers(column)
    ours, rival = parts.error / parts.present, whole.error / whole.present
    what = "stated error of 100 merged parts, against one"
    return Line(what=what, unit="of rows", ours=ours, rival=rival, ratio=rival / ours, bar=0.4)


def _less(what: str, ours: float, rival: float, bar: float, unit: str) -> Line:
    return Line(what=what, unit=unit, ours=ours, rival=rival, ratio=rival / max(ours, 1e-12), bar=bar)


def _columns(random: np.random.Generator, columns: int, rows: int, *, shift: float) -> list[Float64]:
    """Continuous, skewed and whole numbers in turn."""
    draws: tuple[Callable[[], Float64], ...] = (
        lambda: random.normal(shift, 1, rows),
        lambda: random.exponential(1 + shift, rows),
        lambda: random.poisson(20 + shift, rows).astype(np.float64),
        lambda: random.uniform(0, 1 + shift, rows),
    )
    return [draws[index % len(draws)]() for index in range(columns)]


def _rival(reference: Float64, current: Float64) -> tuple[float, float]:
    ks = float(ks_2samp(reference, current, method="asymp").statistic)
    edges = np.unique(np.quantile(reference, np.arange(1, 10) / 10, method="inverted_cdf"))
    # numpy.histogram is open to the right; bins here hold their upper edge, as ours do.
    bounds = np.concatenate([[-np.inf], np.nextafter(edges, np.inf), [np.inf]])
    p, q = (np.histogram(side, bounds)[0] / len(side) for side in (reference, current))
    p, q = np.maximum(p, 1e-9), np.maximum(q, 1e-9)
    return ks, float(np.sum((q - p) * np.log(q / p)))


def _sorted_rival(ordered: Float64, current: Float64) -> tuple[float, float]:
    now = np.sort(current)
    # The largest gap lies at a row of one side, just before it or at it.
    before = np.searchsorted(ordered, now, side="right") / len(ordered)
    after = np.searchsorted(now, ordered, side="right") / len(now)
    at_now = np.abs(before - np.searchsorted(now, now, side="right") / len(now)).max()
    at_then = np.abs(after - np.searchsorted(ordered, ordered, side="right") / len(ordered)).max()
    edges = np.unique(ordered[np.arange(1, 10) * len(ordered) // 10])
    upto = [np.searchsorted(side, edges, side="right") / len(side) for side in (ordered, now)]
    p, q = (np.maximum(np.diff(side, prepend=0, append=1), 1e-9) for side in upto)
    return float(max(at_now, at_then)), float(np.sum((q - p) * np.log(q / p)))


if __name__ == "__main__":
    sys.exit(main())
