"""Numbers and findings in words. Knows nothing of plots or HTML."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "binding",
    "count",
    "difference",
    "drift_finding",
    "judged",
    "metric_name",
    "milliseconds",
    "quality_finding",
    "size",
    "value",
]


def count(number: float) -> str:
    """Return a whole number with separators."""
    return f"{number:,.0f}"


def value(number: float | None, *, digits: int = 4) -> str:
    """Return a metric; a dash where there is none, fewer decimals for large numbers.

    >>> value(0.74219), value(1234.5), value(None)
    ('0.7422', '1,234', '–')
    """
    if number is None:
        return "–"
    return f"{number:.{digits}f}" if abs(number) < 10 else f"{number:,.4g}" if abs(number) < 1000 else f"{number:,.0f}"


def difference(number: float) -> str:
    """Return how far answers differ; exact zero is said as such.

    >>> difference(0.0), difference(1.19e-7)
    ('0', '1.2e-07')
    """
    return "0" if number == 0 else f"{number:.1e}" if abs(number) < 1e-3 else f"{number:.4f}"


def milliseconds(number: float | None) -> str:
    """Return three significant digits.

    >>> milliseconds(0.02134), milliseconds(12.34)
    ('0.0213', '12.3')
    """
    return "–" if number is None else f"{number:.3g}"


def size(size_bytes: float | None) -> str:
    """Return bytes in kB or MB of a thousand.

    >>> size(841_000), size(2_400_000)
    ('841 kB', '2.4 MB')
    """
    if size_bytes is None:
        return "–"
    return f"{size_bytes / 1e3:,.0f} kB" if size_bytes < 1e6 else f"{size_bytes / 1e6:,.1f} MB"


def judged(metric: str) -> str:
    """Return which way a metric is read."""
    return "higher is better" if metric in ("auc", "accuracy") else "lower is better"


def metric_name(metric: str) -> str:
    """Return a metric's name as people write it.

    >>> metric_name("auc"), metric_name("logloss")
    ('AUC', 'log loss')
    """
    return {"auc": "AUC", "rmse": "RMSE", "mae": "MAE", "logloss": "log loss"}.get(metric, metric)


def quality_finding(monitor: Mapping[str, Any], retrained: Sequence[Mapping[str, Any]]) -> str:
    """Return what the periods say of quality, a sentence for the champion and one for each retraining."""
    metric = metric_name(monitor["metric"])
    metric = metric[0].upper() + metric[1:]
    had = [(entry["period"], entry["metric"]) for entry in monitor["periods"] if entry["metric"] is not None]
    if not had:
        return f"{metric} is not known yet: no period has the labels it needs."
    sign = 1 if judged(monitor["metric"]).startswith("higher") else -1
    worst = min(had, key=lambda pair: sign * pair[1])
    of = f", its worst of {len(had)} periods" if len(had) > 1 else ""
    validation, low = value(monitor["validation"], digits=3), value(worst[1], digits=3)
    champion = f"{metric} was {validation} on validation and is {low} in {worst[0]}{of}."
    return " ".join([champion, *filter(None, (_gain(dict(had), made) for made in retrained))])


def _gain(before: Mapping[str, float], made: Mapping[str, Any]) -> str:
    pairs = [
        (before[entry["period"]], entry["metric"])
        for entry in made["periods"]
        if entry["metric"] is not None and entry["period"] in before
    ]
    if not pairs:
        return ""
    old, new = (value(sum(pair[i] for pair in pairs) / len(pairs), digits=3) for i in (0, 1))
    over = f", mean of {len(pairs)} periods" if len(pairs) > 1 else ""
    return f"Fitted again on “{made['on']}” it is {new} against {old}{over}."


def drift_finding(periods: Sequence[Mapping[str, Any]]) -> str:
    """Return which features drifted most often, in one sentence."""
    names = [name for entry in periods for name in entry["drifted"]]
    over = f"{len(periods)} period{'s' if len(periods) > 1 else ''}"
    features = len(periods[0]["drift"]) if periods else 0
    if not names:
        return f"None of {features} features drifted in {over}."
    often = sorted(set(names), key=lambda name: (-names.count(name), name))
    shown = ", ".join(f"{name} ({names.count(name)} of {over})" for name in often[:3])
    more = f" and {len(often) - 3} more" if len(often) > 3 else ""
    return f"{len(often)} of {features} features drifted: {shown}{more}."


def binding(comparison: Mapping[str, Any]) -> str:
    """Return whether batch and online agree, in one sentence."""
    rows = f"{comparison['rows']:,} rows asked again through the endpoint"
    if comparison["bit_equal"]:
        return f"{rows}: every answer is equal, bit for bit."
    return f"{rows}: answers differ by at most {difference(comparison['max_difference'])}."
