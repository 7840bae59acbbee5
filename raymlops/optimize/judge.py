"""Which candidate is chosen, and why, in words. Knows nothing of how it was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from raymlops.spec import Budget
from raymlops.values import JsonValue

__all__ = ["Candidate", "Latency", "Reading", "broken", "choose", "gains", "reason", "runners_up"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Of one call, single thread, milliseconds."""

    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was measured of a candidate that could be built.

    ``value`` is the metric; ``fall`` how much worse it is than native, in the metric's unit, 0 if it is no worse;
    ``difference`` the largest of any answer from native's; ``latency`` by rows a call.
    """

    value: float
    fall: float
    difference: float
    latency: Mapping[int, Latency]
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An engine for a version; ``problem`` says why there is no reading."""

    version: str
    engine: str
    options: Mapping[str, JsonValue]
    reading: Reading | None = None
    problem: str = ""

    @property
    def label(self) -> str:
        """The engine's name and what its options say, as `onnxruntime int8 prune=0.5`."""
        first, *more = [*self.options.items(), ("", "")]
        told = [f"{name}={','.join(value) if isinstance(value, list) else value}" for name, value in more if value]
        return " ".join([self.engine, *([str(first[1])] if first[0] else []), *told])

    def to_json(self) -> dict[str, JsonValue]:
        """Return plain values, one row of the table."""
        row: dict[str, JsonValue] = {"version": self.version, "engine": self.engine, "options": dict(self.options)}
        if self.reading is None:
            return {**row, "problem": self.problem}
        read = asdict(self.reading)
        latency: JsonValue = {str(rows): asdict(ms) for rows, ms in self.reading.latency.items()}
        return {**row, **read, "latency": latency}


def choose(candidates: Sequence[Candidate], budget: Budget, *, rows: int) -> Candidate | None:
    """Return the candidate with the smallest median latency at ``rows`` of those that keep the budget, else None."""
    kept = [one for one in candidates if not broken(one, budget)]
    return min(kept, key=lambda one: _reading(one).latency[rows].p50_ms, default=None)


def runners_up(candidates: Sequence[Candidate], best: Candidate, budget: Budget, *, rows: int) -> list[Candidate]:
    """Return the others that keep the budget, the fastest at ``rows`` first: they answer where `best` cannot."""
    kept = [one for one in candidates if one != best and not broken(one, budget)]
    return sorted(kept, key=lambda one: _reading(one).latency[rows].p50_ms)


def broken(candidate: Candidate, budget: Budget) -> str:
    """Return what of the budget a candidate breaks, in words; nothing if it keeps it. One row bounds the latency."""
    reading = candidate.reading
    if reading is None:
        return candidate.problem
    found = []
    if not reading.fall <= budget.error:
        found.append(f"metric falls by {reading.fall:.3g}, over budget.error={budget.error:g}")
    if not reading.latency[1].p99_ms <= budget.p99_ms:
        found.append(f"p99 of one row is {reading.latency[1].p99_ms:.3g} ms, over budget.p99_ms={budget.p99_ms:g}")
    return "; ".join(found)


def reason(chosen: Candidate, native: Candidate | None, budget: Budget, *, rows: int) -> str:
    """Return why a candidate was chosen, in one sentence, with the numbers that decided."""
    reading = _reading(chosen)
    mine = reading.latency[rows].p50_ms
    against = ""
    if native is not None and native.reading is not None and native != chosen:
        theirs = native.reading.latency[rows].p50_ms
        against = f" against {theirs:.3g} ms of native ({theirs / mine:.2g} times)"
    return (
        f"fastest within the budget at {rows} row{'s' if rows > 1 else ''} a request: median {mine:.3g} ms{against}; "
        f"metric falls by {reading.fall:.2g} of {budget.error:g} allowed, p99 of one row "
        f"{reading.latency[1].p99_ms:.3g} of {budget.p99_ms:g} ms allowed"
    )


def gains(candidate: Candidate, other: Candidate, *, rows: int) -> str:
    """Return in what a candidate beats another, with the numbers: speed at ``rows``, size; nothing if in neither."""
    mine, theirs = _reading(candidate), _reading(other)
    measured = {
        f"ms median at {rows} row{'s' if rows > 1 else ''} a request": (
            mine.latency[rows].p50_ms,
            theirs.latency[rows].p50_ms,
        ),
        "kB": (mine.size_bytes / 1e3, theirs.size_bytes / 1e3),
    }
    return ", ".join(f"{one:.3g} against {two:.3g} {unit}" for unit, (one, two) in measured.items() if one < two)


def _reading(candidate: Candidate) -> Reading:
    assert candidate.reading is not None, f"{candidate.label} was not measured"
    return candidate.reading
