"""Rows where two ways to run a model would first part: on and beside every threshold. Knows nothing of engines."""

from typing import Any

import numpy as np

from raymlops.values import Float32

__all__ = ["edge_rows"]

_MOST_THRESHOLDS = 20_000
_DRAWN = 256
_MISSING = 0.2


def edge_rows(graph: bytes, features: int, *, seed: int = 0) -> Float32:
    """Return rows [n, features] with a value on, just below and just above each threshold of a graph's trees.

    The other values of a row are drawn from the thresholds of their own features, a fifth of all is missing; 256
    rows more are drawn without an edge, and one has nothing but missing values. Of more than 20,000 thresholds that
    many are taken, spread evenly. Equal arguments give equal rows.
    """
    columns, values = _thresholds(graph)
    taken = np.unique(np.linspace(0, len(values) - 1, min(len(values), _MOST_THRESHOLDS)).astype(np.int64))
    columns, values = columns[taken], values[taken]
    random = np.random.default_rng(seed)
    rows = np.empty((3 * len(values) + _DRAWN + 1, features), dtype=np.float32)
    for feature in range(features):
        own = values[columns == feature]
        spread = float(own.std()) or 1.0 if len(own) else 1.0
        around = random.choice(own, len(rows)) if len(own) else np.zeros(len(rows))
        rows[:, feature] = around + random.normal(0, spread, len(rows))
    rows[random.random(rows.shape) < _MISSING] = np.nan
    near = (np.nextafter(values, np.float32(-np.inf)), values, np.nextafter(values, np.float32(np.inf)))
    rows[np.arange(3 * len(values)), np.tile(columns, 3)] = np.concatenate(near)
    rows[-1] = np.nan
    return rows


def _thresholds(graph: bytes) -> tuple[np.ndarray[Any, np.dtype[np.int64]], Float32]:
    """Return the feature and the value of every split; none for a graph without trees."""
    import onnx

    columns: list[int] = []
    values: list[float] = []
    for node in onnx.load_model_from_string(graph).graph.node:
        if node.op_type == "TreeEnsembleRegressor":
            given = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
            inner = [at for at, mode in enumerate(given["nodes_modes"]) if mode != b"LEAF"]
            columns += [given["nodes_featureids"][at] for at in inner]
            values += [given["nodes_values"][at] for at in inner]
    return np.array(columns, dtype=np.int64), np.array(values, dtype=np.float32)
