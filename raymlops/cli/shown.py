"""What the demo says at its end: the monthly table, what retraining recovers, and where to look."""

from io import StringIO
from typing import Any

from raymlops.spec import Spec

__all__ = ["closing"]


def closing(spec: Spec, result: dict[str, Any]) -> str:
    """Return the text of the demo's end: no colour, no more than 110 columns."""
    from rich.console import Console

    text = StringIO()
    Console(file=text, width=110, force_terminal=False).print(_table(result["monitor"], result["again"]))
    compared, monitored = result["comparison"], result["monitor"]
    same = "are equal, bit for bit" if compared["bit_equal"] else f"differ by {compared['max_difference']:.1e} at most"
    lines = [
        "",
        f"{monitored['metric']} of {monitored['model']} on validation: {_number(monitored['validation'])}",
        *(_verdict(monitored, made) for made in result["again"]),
        f"{compared['rows']:,} rows asked again through the endpoint: answers of batch and endpoint {same}",
        f"{result['seconds']:.0f} s, peak memory {result['peak_bytes'] / 2**30:.1f} GiB",
        "",
        "where to look",
        *(f"  {what:<36} {where}" for what, where in result["places"]),
    ]
    return text.getvalue().rstrip() + "\n" + "\n".join(lines)


def _table(monitored: dict[str, Any], again: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    metric = monitored["metric"]
    table = Table(title=f"{monitored['model']} in production", title_justify="left", box=None, pad_edge=False)
    names = ["period", "rows", "rate", metric, *(f"fitted on {made['on']}" for made in again), "drifted features"]
    for name in names:
        table.add_column(name, justify="left" if name in ("period", "drifted features") else "right")
    for row in monitored["periods"]:
        others = [_gain(_of(made, row["period"]), row["metric"]) for made in again]
        cells = [row["period"], f"{row['rows']:,}", _number(row["rate"]), _number(row["metric"])]
        table.add_row(*cells, *others, _drifted(row["drifted"]))
    return table


def _verdict(monitored: dict[str, Any], made: dict[str, Any]) -> str:
    pairs = [(row["metric"], _of(made, row["period"])) for row in monitored["periods"]]
    both = [(old, new) for old, new in pairs if old is not None and new is not None]
    if not both:
        return f"{made['model']}, fitted again on {made['on']}: no period has both metrics"
    old, new = (sum(pair[side] for pair in both) / len(both) for side in (0, 1))
    return (
        f"{made['model']}, fitted again on {made['on']}: {new:.4f} where {monitored['model']} has {old:.4f} "
        f"({new - old:+.4f}), mean of {len(both)} periods"
    )


def _of(made: dict[str, Any], period: str) -> float | None:
    return next((row["metric"] for row in made["periods"] if row["period"] == period), None)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _gain(new: float | None, old: float | None) -> str:
    if new is None or old is None:
        return ""
    return f"{new:.4f} ({new - old:+.4f})"


def _drifted(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{len(names)}: {shown}{', …' if len(names) > 3 else ''}" if names else "0"
