"""What the demo says at its end: the monthly table, what retraining recovers, and where to look."""

from io import StringIO
from typing import Any

from raymlops.spec import Spec

__all__ = ["closing"]


def closing(spec: Spec, result: dict[str, Any]) -> str:
    """Return the text of the demo's end, plain if standard output is no terminal."""
    from rich.console import Console
    from rich.table import Table

    monitored, again = result["monitor"], result["again"]
    recent = {row["period"]: row["metric"] for row in again["monitor"]["periods"]} if again else {}
    metric = monitored["metric"]
    table = Table(title=f"{monitored['model']} in production", title_justify="left", box=None, pad_edge=False)
    names = ["period", "rows", metric, *([f"{metric} retrained"] if recent else []), "rate", "drifted features"]
    for name in names:
        table.add_column(name, justify="left" if name in ("period", "drifted features") else "right")
    for row in monitored["periods"]:
        table.add_row(
            row["period"], f"{row['rows']:,}", _number(row["metric"]),
            *([_gain(recent.get(row["period"]), row["metric"])] if recent else []), _number(row["rate"]),
            _drifted(row["drifted"]),
        )  # fmt: skip
    text = StringIO()
    console = Console(file=text, width=110, force_terminal=False)
    console.print(table)
    lines = [
        "",
        f"{metric} on validation {monitored['validation']:.4f}. "
        + _again(again, monitored["metric"], recent, monitored),
        f"batch and served answers of {result['comparison']['rows']:,} rows differ by at most "
        f"{result['comparison']['max_difference']:.1e}",
        f"{result['seconds']:.0f} s, peak memory {result['peak_bytes'] / 2**30:.1f} GiB",
        "",
        "where to look",
        *(f"  {what:<38} {where}" for what, where in result["places"]),
    ]
    return text.getvalue().rstrip() + "\n" + "\n".join(lines)


def _again(again: dict[str, Any] | None, metric: str, recent: dict[str, float], monitored: dict[str, Any]) -> str:
    if again is None:
        return ""
    old = {row["period"]: row["metric"] for row in monitored["periods"]}
    both = [(old[period], new) for period, new in recent.items() if old.get(period) is not None and new is not None]
    if not both:
        return f"{again['train']['model']} was fitted to recent rows; no period has both metrics."
    before, after = (sum(pair[i] for pair in both) / len(both) for i in (0, 1))
    return f"Fitted again on recent rows, {again['train']['model']} has {after:.4f} where {monitored['model']} has {before:.4f}."


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _gain(new: float | None, old: float | None) -> str:
    if new is None or old is None:
        return ""
    return f"{new:.4f} ({new - old:+.4f})"


def _drifted(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{len(names)}: {shown}{', …' if len(names) > 5 else ''}" if names else "0"
