"""The metrics that judge a model: one number from labels and answers. Knows nothing of models."""

import numpy as np

from raymlops.errors import SpecError
from raymlops.stats import metric_value
from raymlops.values import Float32, Float64, Task

__all__ = ["all_metrics", "higher_is_better", "metric_for"]

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
    found = {name: metric_value(name, y, p) for name in _OF_TASK[task] if name != "auc" or len(np.unique(y)) > 1}
    return {name: value for name, value in found.items() if np.isfinite(value)}
