"""Gradient boosted trees of XGBoost: `model.json` and `model.ubj`. Knows nothing of training or of engines.

The ONNX graph is written here, from the trees as XGBoost saves them, because the converters that exist give wrong
answers without an error. Measured with xgboost 3.2: onnxmltools 1.16 is off by 0.998 for `multi:softprob` of two
classes, by 0.9 for parallel trees of several classes and by 1.6 for `reg:logistic`; hummingbird 0.4 for classifiers.
"""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from raymlops.engine.model import read_model
from raymlops.errors import EngineError
from raymlops.protocols import Predictor
from raymlops.values import Float32

__all__ = ["Xgboost", "import_xgboost", "read_booster"]

# How a sum of leaves becomes an answer, as the name of an ONNX operator.
_LINKS: Mapping[str, str | None] = {
    "binary:logistic": "Sigmoid",
    "reg:logistic": "Sigmoid",
    "multi:softprob": "Softmax",
    "reg:squarederror": None,
    "reg:absoluteerror": None,
    "reg:pseudohubererror": None,
    "reg:quantileerror": None,
    "count:poisson": "Exp",
    "reg:gamma": "Exp",
    "reg:tweedie": "Exp",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Xgboost:
    """Models that XGBoost runs; all trees of the file are used, and categories are split as plain numbers."""

    def load(self, folder: Path, *, threads: int) -> Predictor:
        """Return the model as XGBoost runs it on the CPU, with at most `threads` threads a call."""
        booster = read_booster(folder)
        booster.set_param({"nthread": threads, "device": "cpu"})
        return _InPlace(booster=booster, answer_shape=read_model(folder).answer_shape)

    def to_onnx(self, folder: Path) -> bytes:
        """Return a graph of one tree ensemble and its link: input `x` float32 [batch, features], output `y`.

        Raise EngineError for what ONNX has no equal of: other boosters than gbtree, categorical splits, vector
        leaves, objectives without a known link.
        """
        learner = json.loads(bytes(read_booster(folder).save_raw("json")))["learner"]
        link = _link(learner, folder)
        model = read_model(folder)
        outputs = model.classes if model.task == "multiclass" else 1
        ensemble = _ensemble(learner["gradient_booster"]["model"], folder)
        return _graph(
            ensemble | {"n_targets": outputs, "base_values": _base_values(learner, link, outputs)},
            link=link,
            features=model.features,
            answer_shape=model.answer_shape,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _InPlace:
    booster: Any
    answer_shape: tuple[int, ...]

    def predict(self, x: Float32) -> Float32:
        if not len(x):
            return np.empty((0, *self.answer_shape), dtype=np.float32)
        y = self.booster.inplace_predict(np.ascontiguousarray(x, dtype=np.float32), missing=np.nan)
        return np.asarray(y, dtype=np.float32)


def import_xgboost() -> None:
    """Import xgboost without scikit-learn, a second less of a worker's start; `XGBClassifier` and such import it."""
    if "sklearn" in sys.modules or "xgboost" in sys.modules:
        return
    sys.modules["sklearn"] = None  # type: ignore[assignment]  # an import of it fails until it is taken out again
    try:
        import xgboost
    finally:
        del sys.modules["sklearn"]
    later = [name for name in xgboost.__all__ if name.startswith("XGB")]
    for name in later:  # they are there, but raise; the modules that they come from are imported once more
        delattr(xgboost, name)
    del sys.modules["xgboost.compat"], sys.modules["xgboost.sklearn"]

    def estimator(name: str) -> Any:
        if name in later:
            return getattr(import_module("xgboost.sklearn"), name)
        raise AttributeError(f"module 'xgboost' has no attribute {name!r}")

    xgboost.__getattr__ = estimator


def read_booster(folder: Path) -> Any:
    """Return the folder's `xgboost.Booster`, which takes plain matrices; raise EngineError if it cannot be read."""
    import xgboost

    booster, data = xgboost.Booster(), (folder / "model.ubj").read_bytes()
    if not (data.startswith(b"{") and data.endswith(b"}")):
        # XGBoost 3.2 ends the process, or takes all memory, for a file that was cut off.
        raise EngineError(f"{folder}/model.ubj: is cut off or no UBJSON; restore the version or train it again")
    try:
        booster.load_model(bytearray(data))
    except xgboost.core.XGBoostError as error:
        raise EngineError(f"{folder}/model.ubj: XGBoost cannot read it: {str(error).splitlines()[0]}") from error
    booster.feature_names = booster.feature_types = None  # rows come as a plain matrix, in the contract's order
    return booster


def _link(learner: Mapping[str, Any], folder: Path) -> str | None:
    name, booster = learner["objective"]["name"], learner["gradient_booster"]["name"]
    if booster != "gbtree":
        raise EngineError(f"{folder}/model.ubj: booster {booster!r} has no ONNX form, only 'gbtree' has; use native")
    if name not in _LINKS:
        raise EngineError(
            f"{folder}/model.ubj: objective {name!r} has no ONNX form, known are {', '.join(_LINKS)}; use native"
        )
    return _LINKS[name]


def _base_values(learner: Mapping[str, Any], link: str | None, outputs: int) -> list[float]:
    """Return the sum that a row starts from, one an output; base_score is saved as text, as an answer, not a sum."""
    text = learner["learner_model_param"]["base_score"]
    given = json.loads(text)
    scores = [float(score) for score in (given if isinstance(given, list) else [given])]
    if link == "Sigmoid":
        scores = [math.log(score / (1 - score)) for score in scores]
    if link == "Exp":
        scores = [math.log(score) for score in scores]
    return scores * outputs if len(scores) == 1 else scores


def _ensemble(model: Mapping[str, Any], folder: Path) -> dict[str, list[Any]]:
    """Return the attributes of `TreeEnsembleRegressor` that hold the trees, weighed as they are."""
    if not model["trees"]:
        raise EngineError(f"{folder}/model.ubj: holds no tree")
    made: dict[str, list[Any]] = {name: [] for name in (*_NODES, *_LEAVES)}
    for number, (tree, output) in enumerate(zip(model["trees"], model["tree_info"], strict=True)):
        if any(tree["split_type"]) or int(tree["tree_param"]["size_leaf_vector"]) > 1:
            raise EngineError(f"{folder}/model.ubj: a categorical split or a vector leaf has no ONNX form; use native")
        left, right, values = tree["left_children"], tree["right_children"], tree["split_conditions"]
        for node in _reached(left, right):
            leaf = left[node] < 0
            made["nodes_treeids"].append(number)
            made["nodes_nodeids"].append(node)
            made["nodes_modes"].append("LEAF" if leaf else "BRANCH_LT")
            made["nodes_featureids"].append(0 if leaf else tree["split_indices"][node])
            made["nodes_values"].append(0.0 if leaf else values[node])
            made["nodes_truenodeids"].append(0 if leaf else left[node])
            made["nodes_falsenodeids"].append(0 if leaf else right[node])
            made["nodes_missing_value_tracks_true"].append(0 if leaf else int(tree["default_left"][node]))
            if leaf:
                made["target_treeids"].append(number)
                made["target_nodeids"].append(node)
                made["target_ids"].append(output)
                made["target_weights"].append(values[node])
    return made


_NODES = (
    "nodes_treeids",
    "nodes_nodeids",
    "nodes_modes",
    "nodes_featureids",
    "nodes_values",
    "nodes_truenodeids",
    "nodes_falsenodeids",
    "nodes_missing_value_tracks_true",
)
_LEAVES = ("target_treeids", "target_nodeids", "target_ids", "target_weights")


def _reached(left: Sequence[int], right: Sequence[int]) -> list[int]:
    """Return the nodes below the root, parents first: a pruned tree keeps nodes that nothing leads to."""
    order, open_nodes = [], [0]
    while open_nodes:
        node = open_nodes.pop()
        order.append(node)
        if left[node] >= 0:
            open_nodes += (right[node], left[node])
    return order


def _graph(ensemble: Mapping[str, Any], *, link: str | None, features: int, answer_shape: tuple[int, ...]) -> bytes:
    from onnx import TensorProto, checker, helper

    nodes = [helper.make_node("TreeEnsembleRegressor", ["x"], ["sums"], domain="ai.onnx.ml", **ensemble)]
    last, constants = "sums", []
    if not answer_shape:
        nodes.append(helper.make_node("Squeeze", [last, "column"], ["sum"]))
        last, constants = "sum", [helper.make_tensor("column", TensorProto.INT64, [1], [1])]
    options = {"axis": 1} if link == "Softmax" else {}
    nodes.append(helper.make_node(link or "Identity", [last], ["y"], **options))
    graph = helper.make_graph(
        nodes,
        "trees",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", features])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", *answer_shape])],
        initializer=constants,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="raymlops")
    checker.check_model(model)
    return bytes(model.SerializeToString())
