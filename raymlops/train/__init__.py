"""Training: a sweep of trials on Ray Tune, judged on held-out rows, its best models registered."""

from raymlops.train.check import check
from raymlops.train.metrics import all_metrics, higher_is_better, metric_for, score_metric
from raymlops.train.run import run
from raymlops.train.sweep import Result, Trial, best, best_of_each, trials

__all__ = [
    "Result",
    "Trial",
    "all_metrics",
    "best",
    "best_of_each",
    "check",
    "higher_is_better",
    "metric_for",
    "run",
    "score_metric",
    "trials",
]
