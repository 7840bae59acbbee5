"""The evidence as a table on standard error. Knows nothing of how it was found."""

import sys
from collections.abc import Mapping
from typing import Any

__all__ = ["show"]

_SHOWN = 3


def show(evidence: Mapping[str, Any]) -> None:
    """Print one line a period: rows, quality, base rate and the largest shifts, each as a multiple of its limit."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    title = f"{evidence['model']} in production; {evidence['metric']} on validation {_number(evidence['validation'])}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("period", "rows", evidence["metric"], "rate", "drifted", "largest shifts (distance)"):
        table.add_column(name, justify="left" if name in ("period", "largest shifts (distance)") else "right")
    for entry in evidence["periods"]:
        table.add_row(
            entry["period"],
            f"{entry['rows']:,}",
            _number(entry["metric"]),
            _number(entry["rate"]),
            f"{len(entry['drifted'])} of {len(entry['drift'])}",
            ", ".join(_largest(entry["drift"])),
        )
    Console(file=sys.stderr).print(table)
    for reason in dict.fromkeys(entry["reason"] for entry in evidence["periods"] if entry["reason"]):
        Console(file=sys.stderr).print(f"{evidence['metric']}: {reason}", markup=False, style="dim")


def _largest(drift: Mapping[str, Any]) -> list[str]:
    """Distances of different tests have different units, so that they are ordered by how far over the limit."""
    found = [
        (result["distance"] / result["limit"], f"{feature} {test} {result['distance']:.3f}", result["drifted"])
        for feature, tests in drift.items()
        for test, result in tests.items()
    ]
    ordered = sorted(found, key=lambda shift: (not shift[2], -shift[0], shift[1]))
    return [text for _, text, _ in ordered[:_SHOWN]]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
