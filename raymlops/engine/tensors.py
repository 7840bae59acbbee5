"""Trees of an ONNX graph as plain tensor operators, for runtimes without trees. Knows nothing of XGBoost or of files.

All trees go down one level at a time: where a row stands in each tree is a matrix [rows, trees] of node numbers, and
a level is a look at the node's feature, threshold and children. A leaf is its own child, so shallow trees wait.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from raymlops.errors import EngineError
from raymlops.values import Float32

__all__ = ["as_tensors"]

_TREES = "TreeEnsembleRegressor"
_Int32 = npt.NDArray[np.int32]


def as_tensors(graph: bytes, *, where: str) -> bytes:
    """Return the graph with every `TreeEnsembleRegressor` written as gathers and comparisons; itself without one.

    Answers differ by the order of a sum, no more. Raise EngineError for modes other than BRANCH_LT and sums other
    than SUM. Equal graphs give equal bytes.
    """
    import onnx

    model = onnx.load_model_from_string(graph)
    nodes = list(model.graph.node)
    if not any(node.op_type == _TREES for node in nodes):
        return graph
    del model.graph.node[:]
    for number, node in enumerate(nodes):
        made, constants = _written(node, f"trees{number}", where) if node.op_type == _TREES else ([node], [])
        model.graph.node.extend(made)
        model.graph.initializer.extend(constants)
    kept = [one for one in model.opset_import if one.domain != "ai.onnx.ml"]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Forest:
    """Nodes of all trees in one row: `below`, `above` and `missing` are where a value goes next."""

    feature: _Int32
    threshold: Float32
    below: _Int32
    above: _Int32
    missing: _Int32
    leaf: Float32
    roots: _Int32
    outputs: Sequence[_Int32]  # the trees of each output
    base: Float32
    depth: int


def _written(node: Any, name: str, where: str) -> tuple[list[Any], list[Any]]:
    """Return the operators and constants that take the place of a node of trees."""
    from onnx import helper, numpy_helper

    forest = _forest({one.name: helper.get_attribute_value(one) for one in node.attribute}, where)
    constants: dict[str, Any] = {word: getattr(forest, word) for word in _LOOKED_UP}
    constants |= {"roots": forest.roots[None, :], "base": forest.base, "axis": np.array([1], np.int64)}
    constants |= {f"output{n}": trees for n, trees in enumerate(forest.outputs)}
    constants |= {"nowhere": np.zeros((1, 1), np.int32), "first": np.array([0], np.int32)}
    made: list[Any] = []

    def say(kind: str, *inputs: str, **options: Any) -> str:
        names = [f"{name}.{one}" if one in constants else one for one in inputs]
        made.append(helper.make_node(kind, names, [f"{name}.{len(made)}"], **options))
        return str(made[-1].output[0])

    # A column of x times 0 would be NaN for NaN, so the shape comes from a comparison with itself.
    column = say("Cast", say("IsNaN", say("Gather", node.input[0], "first", axis=1)), to=helper.TensorProto.INT32)
    at = say("Add", say("Mul", column, "nowhere"), "roots")
    for _ in range(forest.depth):
        value = say("GatherElements", node.input[0], say("Gather", "feature", at), axis=1)
        less = say("Less", value, say("Gather", "threshold", at))
        side = say("Where", less, say("Gather", "below", at), say("Gather", "above", at))
        at = say("Where", say("IsNaN", value), say("Gather", "missing", at), side)
    leaves = say("Gather", "leaf", at)
    sums = [
        say("ReduceSum", say("Gather", leaves, f"output{n}", axis=1), "axis", keepdims=1)
        for n in range(len(forest.outputs))
    ]
    say("Add", say("Concat", *sums, axis=1), "base")
    made[-1].output[0] = node.output[0]
    return made, [numpy_helper.from_array(value, f"{name}.{word}") for word, value in constants.items()]


_LOOKED_UP = ("feature", "threshold", "below", "above", "missing", "leaf")


def _forest(given: Mapping[str, Any], where: str) -> _Forest:
    trees, leaf = np.array(given["nodes_treeids"]), np.array(given["nodes_modes"]) == b"LEAF"
    _check(given, leaf, where)
    _, roots, tree_of = np.unique(trees, return_index=True, return_inverse=True)
    place = {node: at for at, node in enumerate(zip(trees, given["nodes_nodeids"], strict=True))}

    def children(word: str) -> _Int32:
        named = zip(trees, given[word], strict=True)
        return np.array([at if leaf[at] else place[child] for at, child in enumerate(named)], dtype=np.int32)

    below, above = children("nodes_truenodeids"), children("nodes_falsenodeids")
    leaves = [place[node] for node in zip(given["target_treeids"], given["target_nodeids"], strict=True)]
    weights, output_of = np.zeros(len(trees), np.float32), np.zeros(len(roots), np.int64)
    weights[leaves], output_of[tree_of[leaves]] = given["target_weights"], given["target_ids"]
    outputs = given.get("n_targets", 1)
    return _Forest(
        feature=np.array(given["nodes_featureids"], dtype=np.int32),
        threshold=np.array(given["nodes_values"], dtype=np.float32),
        below=below,
        above=above,
        missing=np.where(np.array(given["nodes_missing_value_tracks_true"], dtype=bool), below, above),
        leaf=weights,
        roots=roots.astype(np.int32),
        outputs=[np.flatnonzero(output_of == n).astype(np.int32) for n in range(outputs)],
        base=np.array(given.get("base_values", [0.0] * outputs), dtype=np.float32),
        depth=_depth(roots, below, above),
    )


def _check(given: Mapping[str, Any], leaf: npt.NDArray[np.bool_], where: str) -> None:
    odd = {mode.decode() for mode in given["nodes_modes"]} - {"LEAF", "BRANCH_LT"}
    odd |= {str(given.get(word, usual).decode()) for word, usual in _USUAL.items() if given.get(word, usual) != usual}
    outputs = set(zip(given["target_treeids"], given["target_ids"], strict=True))
    if len(given["target_ids"]) != leaf.sum() or len(outputs) != len(set(given["nodes_treeids"])):
        odd.add("leaves of several outputs in a tree")
    if odd:
        raise EngineError(f"{where}: trees with {', '.join(sorted(odd))} have no form in tensors; use native")


_USUAL = {"aggregate_function": b"SUM", "post_transform": b"NONE"}


def _depth(inner: npt.NDArray[Any], below: _Int32, above: _Int32) -> int:
    """Return after how many levels every row stands on a leaf, beginning at the roots."""
    levels = -1
    while len(inner):
        inner, levels = inner[below[inner] != inner], levels + 1
        inner = np.unique(np.concatenate([below[inner], above[inner]]))
    return levels
