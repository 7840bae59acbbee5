"""How good a model is on the rows that judge it: as a whole, by period and by slice, each with its 95 % interval.

What is found here goes into the version, so it is the same from run to run. Knows nothing of how models are fitted.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from raymlops.contract import Contract, Feature
from raymlops.data import examples_by_period
from raymlops.engine import load_format
from raymlops.spec import Spec
from raymlops.stats import Interval, interval
from raymlops.train.metrics import all_metrics
from raymlops.values import Examples, Float32, JsonValue

__all__ = ["evaluated"]

_MOST_CATEGORIES = 20  # of a feature that is sliced by them
_MOST_FEATURES = 24  # that are sliced by, in the contract's order
_LEAST_ROWS = 50  # below which a slice or a period says nothing


def evaluated(spec: Spec, contract: Contract, folder: Path, *, on: str, metric: str) -> dict[str, JsonValue]:
    """Return `intervals` of every metric, `periods` and `slices` of the model in a folder on a window.

    A slice is a category, a missing value or a quarter of the numbers of one feature. Its metric is None where fewer
    than 50 rows, or rows of one class, say nothing.
    """
    predictor = load_format(folder).load(folder, threads=spec.train.cpus_per_trial)
    parts = examples_by_period(spec, on=on, contract=contract)
    answers = {period: predictor.predict(rows.x) for period, rows in parts.items()}
    whole = Examples(
        x=np.concatenate([rows.x for rows in parts.values()]), y=np.concatenate([rows.y for rows in parts.values()])
    )
    p = np.concatenate(list(answers.values()))
    task = contract.label.task
    periods: dict[str, JsonValue] = {
        period: {
            "rows": len(rows.y),
            **all_metrics(task, rows.y, answers[period]),
            "interval": _interval(metric, rows, answers[period]),
        }
        for period, rows in parts.items()
    }
    intervals = {name: _bounds(interval(name, whole.y, p)) for name in all_metrics(task, whole.y, p)}
    return {"intervals": dict(intervals), "periods": periods, "slices": _slices(contract, whole, p, metric)}


def _slices(contract: Contract, rows: Examples, p: Float32, metric: str) -> list[JsonValue]:
    found: list[JsonValue] = []
    for column, feature in list(enumerate(contract.features))[:_MOST_FEATURES]:
        for value, inside in _parts(feature, rows.x[:, column]):
            part = Examples(x=rows.x[inside], y=rows.y[inside])
            told = _interval(metric, part, p[inside])
            found.append({"name": f"{feature.name} {value}", "rows": len(part.y), "interval": told})
    return found


def _parts(feature: Feature, x: Float32) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    missing = np.isnan(x)
    if feature.categories:
        if len(feature.categories) > _MOST_CATEGORIES:
            return
        for index, category in enumerate(feature.categories):
            yield f"= {category}", x == index
    elif not missing.all():
        bounds = np.unique(np.quantile(x[~missing], [0.0, 0.25, 0.5, 0.75, 1.0], method="nearest"))
        for low, high in pairwise(bounds):
            last = high == bounds[-1]
            yield f"[{low:.6g}, {high:.6g}{']' if last else ')'}", (x >= low) & ((x <= high) if last else (x < high))
    if missing.any():
        yield "missing", missing


def _interval(metric: str, rows: Examples, p: Float32) -> JsonValue:
    if len(rows.y) < _LEAST_ROWS:
        return None
    found = interval(metric, rows.y, p)
    return _bounds(found) if np.isfinite(found.value) else None


def _bounds(found: Interval) -> Any:
    return [round(number, 6) for number in (found.value, found.low, found.high)]
