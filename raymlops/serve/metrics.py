"""The endpoint's numbers for Prometheus, added up over all server processes of a node. Knows nothing of HTTP.

A request costs an addition here. Once a second a process writes its sums to a file of its own in a folder of the node,
and whichever process is asked adds up the files, those of processes that have ended too: a counter never falls.
Labels are models and versions, 64 pairs of them at most.
"""

import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from raymlops.errors import RaymlopsError

__all__ = ["Meter", "Tally"]

_MOST_PAIRS = 64
_OTHER = ("other", 0)
_SECONDS = (
    50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16384)


@dataclass(slots=True)
class _Histogram:
    """Counts between bounds, the last one of what is above all of them, and the sum."""

    counts: list[int]
    sum: float = 0.0

    def add(self, other: "_Histogram") -> None:
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum


@dataclass(slots=True, kw_only=True)
class Tally:
    """The numbers of one model version; ``busy_s`` is how long its last requests took to answer, a running mean."""

    model: str
    version: str
    requests: dict[str, int] = field(default_factory=dict)
    seconds: _Histogram = field(default_factory=lambda: _Histogram([0] * (len(_SECONDS) + 1)))
    rows: _Histogram = field(default_factory=lambda: _Histogram([0] * (len(_ROWS) + 1)))
    batches: _Histogram = field(default_factory=lambda: _Histogram([0] * (len(_ROWS) + 1)))
    fallbacks: dict[str, int] = field(default_factory=dict)  # by "ENGINE REASON"
    busy_s: float = 0.0

    def answered(self, status: str, seconds: float, rows: int) -> None:
        """Count a request by its status, the seconds it took and its rows, 0 where it was refused."""
        if status == "200":
            self.busy_s += 0.1 * (seconds - self.busy_s)
        self.requests[status] = self.requests.get(status, 0) + 1
        self.seconds.counts[bisect_left(_SECONDS, seconds)] += 1
        self.seconds.sum += seconds
        if rows:
            self.rows.counts[bisect_left(_ROWS, rows)] += 1
            self.rows.sum += rows

    def batched(self, rows: int) -> None:
        """Count a batch, from whatever thread computes it: a race may lose one now and then."""
        self.batches.counts[bisect_left(_ROWS, rows)] += 1
        self.batches.sum += rows

    def fell_back(self, engine: str, reason: type[RaymlopsError]) -> None:
        """Count that an engine could not be loaded, so that another one answers."""
        key = f"{engine} {reason.__name__}"
        self.fallbacks[key] = self.fallbacks.get(key, 0) + 1

    def add(self, other: "Tally") -> None:
        """Count what another process has counted."""
        self.requests = dict(Counter(self.requests) + Counter(other.requests))
        self.fallbacks = dict(Counter(self.fallbacks) + Counter(other.fallbacks))
        self.seconds.add(other.seconds)
        self.rows.add(other.rows)
        self.batches.add(other.batches)


@dataclass(slots=True)
class Meter:
    """The tallies of this process, and in ``folder``, if there is one, those of the others."""

    folder: Path | None = None
    _tallies: dict[tuple[str, int], Tally] = field(init=False, default_factory=dict)

    def of(self, model: str, version: int) -> Tally:
        """Return the tally of a version; those beyond the 64th share one, called `other`."""
        found = self._tallies.get((model, version))
        if found is None:
            pair = (model, version) if len(self._tallies) < _MOST_PAIRS else _OTHER
            found = self._tallies.setdefault(pair, Tally(model=pair[0], version=str(pair[1])))
        return found

    def save(self) -> None:
        """Write what this process has counted for the others to see; where that fails, they see older numbers."""
        if not self.folder:
            return
        with suppress(OSError):
            aside = self.folder / f".{os.getpid()}"
            aside.write_bytes(orjson.dumps([asdict(tally) for tally in self._tallies.values()]))
            aside.rename(self.folder / f"{os.getpid()}.json")

    def page(self) -> bytes:
        """Return what all processes have saved in Prometheus' text format; without a folder, what this one counted."""
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry()
        registry.register(_Collector(self._added()))
        return bytes(generate_latest(registry))

    def _added(self) -> Mapping[tuple[str, str], Tally]:
        if not self.folder:
            return {(tally.model, tally.version): tally for tally in self._tallies.values()}
        added: dict[tuple[str, str], Tally] = {}
        for path in sorted(self.folder.glob("*.json")):
            for value in orjson.loads(path.read_bytes()):
                histograms = {name: _Histogram(**value[name]) for name in ("seconds", "rows", "batches")}
                tally = Tally(**{**value, **histograms})
                pair = (tally.model, tally.version)
                added.setdefault(pair, Tally(model=pair[0], version=pair[1])).add(tally)
        return added


@dataclass(frozen=True, slots=True, eq=False)
class _Collector:
    tallies: Mapping[tuple[str, str], Tally]

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

        pair = ["model", "version"]
        requests = CounterMetricFamily("raymlops_requests", "Requests by HTTP status", labels=[*pair, "status"])
        seconds = HistogramMetricFamily("raymlops_request_seconds", "From a request's head to its answer", labels=pair)
        rows = HistogramMetricFamily("raymlops_request_rows", "Rows of an answered request", labels=pair)
        batches = HistogramMetricFamily("raymlops_batch_rows", "Rows that were computed together", labels=pair)
        text = "Engines that could not be loaded, so that the next one answers; reason is the kind of error"
        fallbacks = CounterMetricFamily("raymlops_fallbacks", text, labels=[*pair, "engine", "reason"])
        for labels, tally in self.tallies.items():
            for status, count in sorted(tally.requests.items()):
                requests.add_metric([*labels, status], count)
            for key, count in sorted(tally.fallbacks.items()):
                fallbacks.add_metric([*labels, *key.split()], count)
            seconds.add_metric(labels, _cumulated(tally.seconds, _SECONDS), tally.seconds.sum)
            rows.add_metric(labels, _cumulated(tally.rows, _ROWS), tally.rows.sum)
            batches.add_metric(labels, _cumulated(tally.batches, _ROWS), tally.batches.sum)
        yield from (requests, seconds, rows, batches, fallbacks)


def _cumulated(histogram: _Histogram, bounds: tuple[float, ...]) -> list[tuple[str, int]]:
    below, found = 0, []
    for bound, count in zip([*(f"{bound:g}" for bound in bounds), "+Inf"], histogram.counts, strict=True):
        below += count
        found.append((bound, below))
    return found
