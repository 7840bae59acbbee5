"""Leave a share of a model out of its ONNX graph, so that its matrices or ensembles shrink. Knows no versions.

What is left out is what matters least: of a network, hidden neurons whose contribution to the next layer varies least
on a sample (its mean goes into that layer's bias); of boosted trees, the last ones. How much of the metric that costs
is for a budget to say.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raymlops.errors import EngineError
from raymlops.values import Float32

__all__ = ["pruned"]

_TREES = "TreeEnsembleRegressor"
_ELEMENTWISE = ("Relu", "Sigmoid", "Tanh", "LeakyRelu", "Elu", "Selu", "Gelu", "Softplus", "Identity", "Dropout")


def pruned(graph: bytes, *, share: float, sample: Float32, where: Path) -> bytes:
    """Return the graph without a ``share``, in [0, 1), of the neurons of each hidden layer, or of the trees.

    A neuron and a tree of each output stay at least. ``sample`` is [rows, features], 1 row at least for a network.
    Raise EngineError for a graph that has neither. Equal arguments give equal bytes.
    """
    import onnx

    model = onnx.load_model_from_string(graph)
    trees = [node for node in model.graph.node if node.op_type == _TREES]
    layers = _hidden_layers(model)
    for node in trees:
        _cut_trees(node, share)
    if layers:
        if not len(sample):
            raise EngineError(f"{where}: pruning a network needs rows, and none are kept; run `raymlops optimize`")
        seen = _activations(model, [layer.activation for layer in layers], sample)
        for layer in layers:
            _cut_neurons(model, layer, share, seen[layer.activation])
    if not trees and not layers:
        found = ", ".join(sorted({node.op_type for node in model.graph.node}))
        raise EngineError(
            f"{where}: nothing can be left out: the graph ({found}) has no trees, and no two matrix products (Gemm) "
            "with an activation between them; use prune: 0"
        )
    del model.graph.value_info[:]
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    """Two products and the name of what lies between them: what the first gives, after its activation."""

    before: Any
    after: Any
    activation: str


def _hidden_layers(model: Any) -> list[_Layer]:
    """Return each pair of Gemm nodes, with constant weights and biases, that only element-wise operators part."""
    constants = {tensor.name for tensor in model.graph.initializer}
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {tensor.name for tensor in model.graph.output}
    found = []
    for node in model.graph.node:
        if not _is_layer(node, constants):
            continue
        name, reader = node.output[0], _only(readers, node.output[0], outputs)
        while reader is not None and reader.op_type in _ELEMENTWISE:
            name = reader.output[0]
            reader = _only(readers, name, outputs)
        if reader is not None and _is_layer(reader, constants) and reader.input[0] == name:
            found.append(_Layer(before=node, after=reader, activation=name))
    return found


def _only(readers: Mapping[str, Sequence[Any]], name: str, outputs: set[str]) -> Any | None:
    reading = readers.get(name, ())
    return reading[0] if len(reading) == 1 and name not in outputs else None


def _is_layer(node: Any, constants: set[str]) -> bool:
    if node.op_type != "Gemm" or len(node.input) != 3 or not set(node.input[1:]) <= constants:
        return False
    given = {one.name: one for one in node.attribute}
    plain = all(name not in given or given[name].f == 1 for name in ("alpha", "beta"))
    return plain and ("transA" not in given or given["transA"].i == 0)


def _activations(model: Any, names: Sequence[str], sample: Float32) -> dict[str, Float32]:
    import onnx
    import onnxruntime

    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(list(names), {"x": sample}), strict=True))


def _cut_neurons(model: Any, layer: _Layer, share: float, seen: Float32) -> None:
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    weights, bias = (_array(tensors[name]) for name in layer.before.input[1:])
    following, shift = (_array(tensors[name]) for name in layer.after.input[1:])
    out_axis, in_axis = (0 if _transposed(layer.before) else 1), (1 if _transposed(layer.after) else 0)
    neurons = weights.shape[out_axis]
    outgoing = np.linalg.norm(following, axis=1 - in_axis)
    matters = seen.astype(np.float64).std(axis=0) * outgoing
    kept = np.sort(np.argsort(-matters, kind="stable")[: max(1, math.ceil(neurons * (1 - share)))])
    left_out = np.setdiff1d(np.arange(neurons), kept)
    lost = np.take(following, left_out, axis=in_axis)
    mean = seen[:, left_out].astype(np.float64).mean(axis=0)
    moved = shift + (mean @ (lost.T if in_axis else lost)).astype(np.float32)
    _replace(tensors[layer.before.input[1]], np.take(weights, kept, axis=out_axis))
    _replace(tensors[layer.before.input[2]], bias[..., kept])
    _replace(tensors[layer.after.input[1]], np.take(following, kept, axis=in_axis))
    _replace(tensors[layer.after.input[2]], moved)


def _cut_trees(node: Any, share: float) -> None:
    from onnx import helper

    given = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    output_of = dict(zip(given["target_treeids"], given["target_ids"], strict=True))
    total, taken, kept = Counter(output_of.values()), Counter[int](), set()
    for tree in sorted(output_of):
        output = output_of[tree]
        if taken[output] < max(1, math.ceil(total[output] * (1 - share))):
            taken[output] += 1
            kept.add(tree)
    made = []
    for name, value in given.items():
        prefix = name.partition("_")[0]
        if prefix in ("nodes", "target") and name != "n_targets":
            trees = given[f"{prefix}_treeids"]
            value = [one for one, tree in zip(value, trees, strict=True) if tree in kept]
        made.append(helper.make_attribute(name, value))
    del node.attribute[:]
    node.attribute.extend(made)


def _transposed(node: Any) -> bool:
    return any(one.name == "transB" and one.i == 1 for one in node.attribute)


def _array(tensor: Any) -> Float32:
    from onnx import numpy_helper

    return np.asarray(numpy_helper.to_array(tensor), dtype=np.float32)


def _replace(tensor: Any, value: Float32) -> None:
    from onnx import numpy_helper

    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), tensor.name))
