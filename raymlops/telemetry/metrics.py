"""Numbers of a stage as a file that Prometheus' node exporter reads. Knows nothing of what the numbers mean.

A stage is no server: it ends, and its last numbers are what an alert asks for. So they lie in a file of the text
format, `HOME/metrics/NAME.prom`, for the exporter's `--collector.textfile.directory`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Metric", "write_metrics"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A gauge; each of ``values`` is told apart by its value of ``label``, or is the only one where that is empty."""

    name: str
    help: str
    values: Mapping[str, float]
    label: str = ""


def write_metrics(path: Path, metrics: Sequence[Metric], *, labels: Mapping[str, str]) -> None:
    """Put the metrics in the place of those in the file; `labels` stand on every one of them."""
    from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

    registry = CollectorRegistry()
    for metric in metrics:
        names = [*labels, *([metric.label] if metric.label else [])]
        gauge = Gauge(metric.name, metric.help, names, registry=registry)
        for value, number in metric.values.items():
            gauge.labels(*labels.values(), *([value] if metric.label else [])).set(number)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_to_textfile(str(path), registry)  # beside it, then renamed
