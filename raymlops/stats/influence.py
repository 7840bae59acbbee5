"""How sure a metric is: its value, and how much each row moves it. Pure; knows nothing of models.

The influence of row i is the derivative of the metric when the row's weight grows (Hampel, 1974), 0 in the mean; so the
standard error is the root of mean(influence²)/n, and that of a difference of two models on the same rows comes from the
difference of their influences. For the area under the curve this is DeLong's variance (DeLong and others, 1988).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Interval", "difference", "influence", "interval", "metric_value"]

_Z = 1.959963984540054  # of the normal distribution, 97.5 %
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate and its 95 % interval, of a normal distribution."""

    value: float
    low: float
    high: float


def interval(metric: str, y: Float64, p: npt.NDArray[np.floating]) -> Interval:
    """Return a metric of answers p ([n], or [n, classes]) against labels y [n]. A share stays within [0, 1]."""
    value, moved = influence(metric, y, p)
    low, high = _around(value, moved)
    if metric in ("auc", "accuracy"):
        low, high = max(low, 0.0), min(high, 1.0)
    return Interval(value=value, low=low if metric in ("auc", "accuracy") else max(low, 0.0), high=high)


def difference(metric: str, y: Float64, new: npt.NDArray[np.floating], old: npt.NDArray[np.floating]) -> Interval:
    """Return by how much new answers are better than old ones on the same rows: above 0 is better for every metric."""
    (a, moved), (b, before) = (influence(metric, y, p) for p in (new, old))
    sign = 1.0 if metric in ("auc", "accuracy") else -1.0
    value, moved = sign * (a - b), sign * (moved - before)
    low, high = _around(value, moved)
    return Interval(value=value, low=low, high=high)


def metric_value(metric: str, y: Float64, p: npt.NDArray[np.floating]) -> float:
    """Return what `influence` does without the influences: accuracy, auc, logloss, mae or rmse.

    Answers of several classes are shares of one, whatever they add up to. `auc` of several classes is the mean of one
    class against the rest (Provost and Domingos, 2001), of the classes that occur. NaN where undefined.
    """
    answers = np.asarray(p, dtype=np.float64)
    if metric == "rmse":
        return float(np.sqrt(np.mean((y - answers) ** 2)))
    if metric != "auc":
        return float(_each(metric, y, answers).mean()) if len(y) else float("nan")
    sides = [(y == 1, answers)] if answers.ndim == 1 else [(y == c, answers[:, c]) for c in range(answers.shape[1])]
    areas = [
        float(_below(np.sort(side[~positive]), side[positive]).mean()) / int((~positive).sum())
        for positive, side in sides
        if positive.any() and not positive.all()
    ]
    return float(np.mean(areas)) if areas else float("nan")


def influence(metric: str, y: Float64, p: npt.NDArray[np.floating]) -> tuple[float, Float64]:
    """Return a metric and the influence of each row [n]: accuracy, auc, logloss, mae or rmse.

    Each is as in `metric_value`.
    """
    answers = np.asarray(p, dtype=np.float64)
    if metric == "auc":
        return _auc(y, answers)
    if metric == "rmse":
        squares = (y - answers) ** 2
        mean = float(squares.mean())
        root = float(np.sqrt(mean))
        return root, (squares - mean) / (2 * root) if root else np.zeros(len(y))
    each = _each(metric, y, answers)
    mean = float(each.mean()) if len(each) else float("nan")
    return mean, each - mean


def _each(metric: str, y: Float64, p: Float64) -> Float64:
    if metric == "mae":
        return np.asarray(np.abs(y - p))
    if metric == "accuracy":
        return np.asarray((p.argmax(axis=1) if p.ndim == 2 else p >= 0.5) == y, dtype=np.float64)
    clipped = np.clip(p, 1e-7, 1 - 1e-7)
    of = y.astype(np.int64)
    if p.ndim == 2:
        return np.asarray(-np.log(clipped[np.arange(len(y)), of] / clipped.sum(axis=1)))
    return np.asarray(-np.log(np.where(of == 1, clipped, 1 - clipped)))


def _auc(y: Float64, p: Float64) -> tuple[float, Float64]:
    if p.ndim == 1:
        return _area(y == 1, p)
    found = [_area(y == c, p[:, c]) for c in range(p.shape[1]) if 0 < (y == c).sum() < len(y)]
    if not found:
        return float("nan"), np.full(len(y), np.nan)
    return float(np.mean([area for area, _ in found])), np.mean([moved for _, moved in found], axis=0)


def _area(positive: npt.NDArray[np.bool_], p: Float64) -> tuple[float, Float64]:
    """Return the area, and what DeLong calls the placements of the rows, as influences."""
    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        return float("nan"), np.full(len(p), np.nan)
    ups, downs = np.sort(p[positive]), np.sort(p[~positive])

    placed = np.where(positive, _below(downs, p) / m, 1 - _below(ups, p) / n)
    area = float(placed[positive].mean())
    return area, np.where(positive, (placed - area) * len(p) / n, (placed - area) * len(p) / m)


def _below(sorted_values: Float64, of: Float64) -> Float64:
    """Return how many values are below each of some, those equal to it by half."""
    return np.asarray((np.searchsorted(sorted_values, of, "left") + np.searchsorted(sorted_values, of, "right")) / 2)


def _around(value: float, moved: Float64) -> tuple[float, float]:
    error = _Z * float(np.sqrt(np.mean(moved**2) / len(moved))) if len(moved) else float("nan")
    return value - error, value + error
