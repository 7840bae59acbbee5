"""What a person or Prometheus sees while work goes on. Knows nothing of what the work is."""

from raymlops.telemetry.metrics import Metric, write_metrics
from raymlops.telemetry.progress import progress, say

__all__ = ["Metric", "progress", "say", "write_metrics"]
