"""The metrics that judge a model: one number from labels and answers. Knows nothing of models."""

import numpy as np

from raymlops.errors import SpecError
from raymlops.values import Float32, Float64, Task

__all__ = ["all_metrics", "higher_is_better", "metric_for", "score_metric"]

_OF_TASK: dict[Task, tuple[str, ...]] = {
    "binary": ("auc", "logloss", "accuracy"),
    "multiclass": ("logloss", "accuracy", "auc"),
    "regression": ("rmse", "mae"),
}


def metric_for(task: Task, asked: str | None) -> str:
    """Return the metric asked for, or the task's first; raise SpecError when it has no meaning for the task."""
    if asked is not None and asked not in _OF_TASK[task]:
        raise SpecError(f"train.metric: {asked!r} has no meaning for {task}; allowed are {', '.join(_OF_TASK[task])}")
    return asked or _OF_TASK[task][0]


def higher_is_better(metric: str) -> bool:
    """Return whether a larger value is a better model."""
    return metric in ("auc", "accuracy")


def all_metrics(task: Task, y: Float64, p: Float32) -> dict[str, float]:
    """Return every metric of the task that these rows define; `auc` is left out where only one class occurs."""
    found = {name: score_metric(name, y, p) for name in _OF_TASK[task] if name != "auc" or len(np.unique(y)) > 1}
    return {name: value for name, value in found.items() if np.isfinite(value)}


def score_metric(metric: str, y: Float64, p: Float32) -> float:
    """Return a metric of answers `p` ([n], or [n, classes]) against labels `y` [n]; NaN where it is undefined.

    `auc` of several classes is the mean of one class against the rest (Provost and Domingos, 2001).
    """
    from sklearn import metrics

    if metric in ("rmse", "mae"):
        error = y - p
        return float(np.sqrt(np.mean(error**2)) if metric == "rmse" else np.mean(np.abs(error)))
    labels = np.arange(p.shape[1]) if p.ndim == 2 else np.arange(2)
    if metric == "logloss":
        clipped = np.clip(p.astype(np.float64), 1e-7, 1 - 1e-7)
        shares = clipped / clipped.sum(axis=1, keepdims=True) if p.ndim == 2 else clipped
        return float(metrics.log_loss(y, shares, labels=labels))
    if metric == "accuracy":
        best = p.argmax(axis=1) if p.ndim == 2 else (p >= 0.5)
        return float(np.mean(best == y))
    if p.ndim == 1:
        return float(metrics.roc_auc_score(y, p)) if len(np.unique(y)) > 1 else float("nan")
    areas = [metrics.roc_auc_score(y == c, p[:, c]) for c in labels if 0 < (y == c).sum() < len(y)]
    return float(np.mean(areas)) if areas else float("nan")
