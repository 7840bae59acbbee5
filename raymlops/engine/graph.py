"""A version's ONNX graph, checked before anything is made of it. Knows nothing of engines or of artefacts.

A graph may come from a format outside this package, and an artefact from a disk that others write to. So no weight
may lie in a file beside it: a name of such a file reads any file of the machine, by `..` or through a link.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raymlops.engine.model import load_format, read_model
from raymlops.errors import EngineError
from raymlops.protocols import Predictor
from raymlops.values import Float32

__all__ = ["check_graph", "check_weights", "checked_graph", "largest_difference", "operators", "session"]

# Correct conversions of trees and networks differ by 1e-6 of the scale (tests/engine); wrong ones by 1e-2 and more.
_LARGEST_DIFFERENCE = 1e-3
# What lies between the layers then fits the caches; beside a floor that does the same: benchmarks/score.py, network.
_ROWS_AT_ONCE = 8_192
_OUTPUTS = ["y"]


def checked_graph(version: Path, *, sample: Float32) -> bytes:
    """Return the float32 graph of a version's folder, which gives the native answers on ``sample`` [n, features].

    Raise EngineError if the graph is not what ModelFormat promises or answers otherwise.
    """
    kind = load_format(version)
    graph = kind.to_onnx(version)
    check_graph(graph, version)
    expected = kind.load(version, threads=1).predict(sample)
    given = session(graph, version, threads=1).predict(sample)
    if given.shape != expected.shape:
        raise EngineError(f"{version}: the ONNX graph answers {given.shape}, native answers {expected.shape}")
    difference = largest_difference(given, expected)
    if not difference <= _LARGEST_DIFFERENCE:
        raise EngineError(
            f"{version}: the ONNX graph differs from native by {difference:.2g} of the scale, "
            f"at most {_LARGEST_DIFFERENCE:g} is allowed; use native and report the model"
        )
    return graph


def largest_difference(given: Float32, expected: Float32) -> float:
    """Return the largest difference of two answers, in units of the largest expected one, or of 1 if that is larger.

    >>> largest_difference(np.float32([1.5]), np.float32([1]))
    0.5
    """
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    return float(np.abs(given - expected).max(initial=0.0)) / scale


def check_graph(graph: bytes, version: Path) -> None:
    """Raise EngineError unless the graph takes `x` and gives `y`, as ModelFormat says, and holds its weights itself."""
    import onnx

    features = read_model(version).features
    try:
        model = onnx.load_model_from_string(graph)
    except Exception as error:  # protobuf's own errors share no other parent
        raise EngineError(f"{version}: the ONNX graph cannot be read: {error}") from error
    given = [(tensor.name, _dims(tensor), tensor.type.tensor_type.elem_type) for tensor in model.graph.input]
    outputs = [tensor.name for tensor in model.graph.output]
    if [(name, dims[1:], kind) for name, dims, kind in given] != [("x", (features,), onnx.TensorProto.FLOAT)]:
        raise EngineError(f"{version}: the ONNX graph takes {given}, one float32 `x` [batch, {features}] is needed")
    if outputs != ["y"]:
        raise EngineError(f"{version}: the ONNX graph gives {outputs}, one `y` is needed")
    outside = [tensor.name for tensor in _tensors(model) if tensor.data_location == onnx.TensorProto.EXTERNAL]
    if outside:
        raise EngineError(f"{version}: weights {', '.join(outside)} lie outside the ONNX file; save them inside")


def check_weights(graph: bytes, version: Path) -> None:
    """Raise EngineError if a weight of the graph lies in another file.

    Such a weight spells "location" (ONNX: `TensorProto.external_data`). A graph without the word has none, and is not
    parsed: importing onnx takes longer than loading most graphs.
    """
    if b"location" in graph:
        check_graph(graph, version)


def operators(graph: bytes) -> set[str]:
    """Return the names of the operators of a graph."""
    import onnx

    return {node.op_type for node in onnx.load_model_from_string(graph).graph.node}


def session(graph: bytes, version: Path, *, threads: int) -> Predictor:
    """Return the graph as ONNX Runtime runs it on the CPU; it may be asked by many threads at once."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        made = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors share no other parent
        raise EngineError(f"{version}: ONNX Runtime cannot load the ONNX graph: {error}") from error
    return _Session(session=made, answer_shape=read_model(version).answer_shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Session:
    session: Any
    answer_shape: tuple[int, ...]

    def predict(self, x: Float32) -> Float32:
        if not len(x):
            return np.empty((0, *self.answer_shape), dtype=np.float32)
        rows = np.ascontiguousarray(x, dtype=np.float32)
        if len(x) <= _ROWS_AT_ONCE:
            return np.asarray(self.session.run(_OUTPUTS, {"x": rows})[0], dtype=np.float32)
        parts = [
            self.session.run(_OUTPUTS, {"x": rows[at : at + _ROWS_AT_ONCE]})[0]
            for at in range(0, len(x), _ROWS_AT_ONCE)
        ]
        return np.asarray(np.concatenate(parts), dtype=np.float32)


def _dims(tensor: Any) -> tuple[int, ...]:
    return tuple(int(dim.dim_value) for dim in tensor.type.tensor_type.shape.dim)


def _tensors(message: Any) -> Iterator[Any]:
    """Yield every tensor of a message of ONNX, however deep: weights, constants of nodes, subgraphs, functions."""
    import onnx

    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for one in value if field.is_repeated else [value]:
            if isinstance(one, onnx.TensorProto):
                yield one
            else:
                yield from _tensors(one)
