"""The candidates as a table for a person, on standard error. Knows nothing of how they were measured."""

import sys
from collections.abc import Collection, Sequence

from raymlops.optimize.judge import Candidate, broken
from raymlops.spec import Budget
from raymlops.values import Version

__all__ = ["show"]


def show(
    candidates: Sequence[Candidate],
    chosen: Collection[tuple[str, str]],
    budget: Budget,
    *,
    metric: str,
    student: Version | None,
) -> None:
    """Print a line a candidate; ``chosen`` are pairs of a version and an engine's label."""
    from rich.console import Console
    from rich.table import Table

    sizes = sorted({rows for one in candidates if one.reading for rows in one.reading.latency})
    table = Table(title="Engines: single thread; milliseconds are median / p99 of one call")
    for heading in ("version", "engine", metric, "fall", "largest difference"):
        table.add_column(heading, justify="left" if heading in ("version", "engine") else "right")
    for rows in sizes:
        table.add_column(f"{rows:,} row{'s' if rows > 1 else ''}", justify="right")
    table.add_column("kB", justify="right")
    table.add_column("verdict", overflow="fold")
    for one in candidates:
        verdict = "chosen" if (one.version, one.label) in chosen else broken(one, budget) or "kept, slower"
        version = f"{one.version} (student)" if one.version == str(student) else one.version
        table.add_row(version, one.label, *_numbers(one, sizes), verdict)
    Console(stderr=True, width=None if sys.stderr.isatty() else 180).print(table)


def _numbers(one: Candidate, sizes: Sequence[int]) -> list[str]:
    if one.reading is None:
        return ["-"] * (4 + len(sizes))
    read = one.reading
    times = [f"{read.latency[rows].p50_ms:.3g} / {read.latency[rows].p99_ms:.3g}" for rows in sizes]
    return [f"{read.value:.5f}", f"{read.fall:.2g}", f"{read.difference:.2g}", *times, f"{read.size_bytes / 1e3:,.0f}"]
