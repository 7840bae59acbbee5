"""Drift of 20 columns from profiles, against scipy and numpy on the raw rows.

    python benchmarks/monitor.py [--quick] [--json]

A line a number: what, ours, the rival's, the ratio, the bar, met or missed. The rival keeps the reference's rows and
runs `scipy.stats.ks_2samp` and a PSI over `numpy.histogram` for each column, as drift libraries do. The sharper rival
keeps the reference's rows sorted and needs numpy only. Ours keeps the profile. Rounds are interleaved, the numbers are medians, and every round has rows of its own. Exit 1 when a bar is
missed.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from scipy.stats import ks_2samp

from raymlops.codec import dumps
from raymlops.monitor.drift_tests.ks import Ks
from raymlops.monitor.drift_tests.psi import Psi
from raymlops.sketch import ColumnProfile, merge, profile_numbers
from raymlops.values import Float64


@dataclass(frozen=True, slots=True)
class Line:
    """One measured number; ``ratio`` is how many times better ours is than the rival's, ``bar`` what it must reach."""

    what: str
    ours: float
    rival: float
    ratio: float
    bar: float
    unit: str

    @property
    def met(self) -> bool:
        """Whether the bar is reached."""
        return self.ratio >= self.bar


def main() -> int:
    """Measure, print, and return the exit code."""
    quick = "--quick" in sys.argv
    columns, rows, rounds = (4, 50_000, 3) if quick else (20, 1_000_000, 5)
    lines = measure(columns=columns, rows=rows, rounds=rounds, quick=quick)
    if "--json" in sys.argv:
        print(json.dumps([{**asdict(line), "met": line.met} for line in lines]))
    else:
        print(f"{columns} columns of {rows:,} rows, median of {rounds} interleaved rounds")
        for line in lines:
            verdict = "met" if line.met else "missed"
            ours, rival = f"{line.ours:,.4g} {line.unit}", f"{line.rival:,.4g} {line.unit}"
            print(f"{line.what} · {ours} · {rival} · {line.ratio:,.2f}x · {line.bar:g}x · {verdict}")
    return 0 if all(line.met for line in lines) else 1


def measure(*, columns: int, rows: int, rounds: int, quick: bool) -> list[Line]:
    """Return every line. Few rows make for smaller bars: a profile has a fixed cost."""
    reference = _columns(np.random.default_rng(0), columns, rows, shift=0.0)
    kept = [profile_numbers(column) for column in reference]
    taken: dict[str, list[float]] = {"profile": [], "compare": [], "rival": [], "sorted": []}
    ordered = [np.sort(column) for column in reference]
    worst = {"ks": 0.0, "psi": 0.0}
    for turn in range(rounds):
        current = _columns(np.random.default_rng(turn + 1), columns, rows, shift=0.1)
        theirs: list[tuple[float, float]] = []
        profiles: list[ColumnProfile] = []
        ours: list[tuple[float, float]] = []

        def ask_rival(now: list[Float64] = current, out: list[tuple[float, float]] = theirs) -> None:
            out += [_rival(a, b) for a, b in zip(reference, now, strict=True)]

        def take(now: list[Float64] = current, out: list[ColumnProfile] = profiles) -> None:
            out += [profile_numbers(column) for column in now]

        def compare(now: list[ColumnProfile] = profiles, out: list[tuple[float, float]] = ours) -> None:
            out += [(Ks().compare(a, b).distance, Psi().compare(a, b).distance) for a, b in zip(kept, now, strict=True)]

        def ask_sorted(now: list[Float64] = current) -> None:
            for a, b in zip(ordered, now, strict=True):
                _sorted_rival(a, b)

        steps: list[tuple[str, Callable[[], None]]] = [
            ("rival", ask_rival),
            ("sorted", ask_sorted),
            ("profile", take),
            ("compare", compare),
        ]
        # Every other round begins with ours: what runs first must not be favoured or punished.
        for name, step in steps if turn % 2 == 0 else [*steps[2:], *steps[:2]]:
            start = time.perf_counter()
            step()
            taken[name].append(time.perf_counter() - start)
        for (ks, psi), (their_ks, their_psi) in zip(ours, theirs, strict=True):
            worst["ks"] = max(worst["ks"], abs(ks - their_ks))
            worst["psi"] = max(worst["psi"], abs(psi - their_psi))
    seconds = {name: statistics.median(values) for name, values in taken.items()}
    whole = seconds["profile"] + seconds["compare"]
    raw, profile = float(sum(column.nbytes for column in reference)), float(sum(len(p.sketch) for p in kept))
    text = float(len(dumps([p.to_json() for p in kept])))
    return [
        _less("drift of a new period, profiling it included", whole, seconds["rival"], 1.2 if quick else 2.0, "s"),
        _less("the same, against a sorted reference", whole, seconds["sorted"], 0.8 if quick else 1.0, "s"),
        _less("drift of a period that has its profile", seconds["compare"], seconds["rival"], 5 if quick else 100, "s"),
        _less("kept of the reference in memory", profile, raw, 10 if quick else 400, "bytes"),
        _less("kept of the reference in profile.json", text, raw, 5 if quick else 200, "bytes"),
        _merged(reference[0]),
        # The rival is exact: the numbers are the largest allowed and the largest measured distance from it.
        Line(
            "largest error of ks, against the allowed", worst["ks"], 0.001, 0.001 / max(worst["ks"], 1e-12), 1.0, "of 1"
        ),
        Line(
            "largest error of psi, against the allowed",
            worst["psi"],
            0.005,
            0.005 / max(worst["psi"], 1e-12),
            1.0,
            "psi",
        ),
    ]


def _merged(column: Float64) -> Line:
    """A hundred parts, merged, against the profile of all rows: the largest error of a rank that each states."""
    parts = merge(*(profile_numbers(part) for part in np.array_split(column, 100)))
    whole = profile_numbers(column)
    ours, rival = parts.error / parts.present, whole.error / whole.present
    return Line("stated error of 100 merged parts, against one", ours, rival, rival / ours, 0.4, "of rows")


def _less(what: str, ours: float, rival: float, bar: float, unit: str) -> Line:
    return Line(what, ours, rival, rival / ours, bar, unit)


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
