"""Training: a sweep of trials on Ray Tune, judged on held-out rows, its best models registered."""

from raymlops.train.check import check
from raymlops.train.distill import distil, is_student
from raymlops.train.metrics import all_metrics, higher_is_better, metric_for
from raymlops.train.rebuild import rebuild
from raymlops.train.run import run
from raymlops.train.sweep import Result, Trial, batches, best, best_of_each, first_batch

__all__ = [
    "Result",
    "Trial",
    "all_metrics",
    "batches",
    "best",
    "best_of_each",
    "check",
    "distil",
    "first_batch",
    "higher_is_better",
    "is_student",
    "metric_for",
    "rebuild",
    "run",
]
