"""Rows of a stage as metrics of the Ray cluster it runs on, where Prometheus reads them. Knows no stage."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray.util.metrics import Counter, Gauge

__all__ = ["RowMeter", "row_meter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowMeter:
    """Counts rows by what became of them, and tells how many are left."""

    rows: Any
    left: Any

    def add(self, outcomes: Mapping[str, int], *, left: int | None) -> None:
        """Count rows of each outcome; `left` is the number of rows still to come, None where it is not known."""
        for outcome, more in outcomes.items():
            if more:
                self.rows.inc(more, tags={"outcome": outcome})
        if left is not None:
            self.left.set(left)


def row_meter(stage: str, *, model: str, run: str) -> RowMeter:
    """Return the meter of one run: `ray_raymlops_STAGE_rows_total` and `ray_raymlops_STAGE_rows_left` in Prometheus."""
    rows = Counter(f"raymlops_{stage}_rows", "Rows by what became of them.", tag_keys=("model", "run", "outcome"))
    left = Gauge(f"raymlops_{stage}_rows_left", "Rows still to come.", tag_keys=("model", "run"))
    for metric in (rows, left):
        metric.set_default_tags({"model": model, "run": run})
    return RowMeter(rows=rows, left=left)
