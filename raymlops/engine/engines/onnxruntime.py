"""ONNX Runtime on the CPU, in float32 or int8. Knows nothing of which version is in use or why."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from raymlops.engine.model import load_format, read_model
from raymlops.engine.quantize import quantized
from raymlops.errors import EngineError
from raymlops.protocols import Predictor
from raymlops.values import Float32

__all__ = ["Onnxruntime"]

_FILE = "model.onnx"
# Correct conversions of trees and networks differ by 1e-6 of the scale (tests/engine); wrong ones by 1e-2 and more.
_LARGEST_DIFFERENCE = 1e-3
# What lies between the layers then fits the caches; beside a floor that does the same: benchmarks/score.py, network.
_ROWS_AT_ONCE = 8_192
_OUTPUTS = ["y"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Onnxruntime:
    """The version's ONNX graph; "int8" quantizes its matrix products, with ranges seen on the sample."""

    precision: Literal["float32", "int8"] = "float32"

    def gpus(self) -> float:
        """Return 0: it runs on the CPU."""
        return 0.0

    def compile(self, version: Path, artefact: Path, *, sample: Float32) -> None:
        """Write `model.onnx`; raise EngineError if the graph is not what ModelFormat promises or answers otherwise.

        The float32 graph must give the native answers on the sample. Precision "int8" needs at least one row and
        a model with matrix products: trees have none.
        """
        kind = load_format(version)
        graph = kind.to_onnx(version)
        _check_signature(graph, features=read_model(version).features, where=version)
        expected = kind.load(version, threads=1).predict(sample)
        _check_answers(_predictor(graph, version, threads=1).predict(sample), expected, where=version)
        if self.precision == "int8":
            graph = quantized(graph, sample=sample, where=version)
        (artefact / _FILE).write_bytes(graph)

    def load(self, version: Path, artefact: Path, *, threads: int) -> Predictor:
        """Return a session with at most `threads` threads a call; it may be asked by many threads at once."""
        return _predictor((artefact / _FILE).read_bytes(), version, threads=threads)


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


def _predictor(graph: bytes, version: Path, *, threads: int) -> Predictor:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors share no other parent
        raise EngineError(f"{version}: ONNX Runtime cannot load the graph: {error}") from error
    return _Session(session=session, answer_shape=read_model(version).answer_shape)


def _check_signature(graph: bytes, *, features: int, where: Path) -> None:
    import onnx

    model = onnx.load_model_from_string(graph)
    given = [(tensor.name, _dims(tensor), tensor.type.tensor_type.elem_type) for tensor in model.graph.input]
    outputs = [tensor.name for tensor in model.graph.output]
    if [(name, dims[1:], kind) for name, dims, kind in given] != [("x", (features,), onnx.TensorProto.FLOAT)]:
        raise EngineError(f"{where}: the ONNX graph takes {given}, one float32 `x` [batch, {features}] is needed")
    if outputs != ["y"]:
        raise EngineError(f"{where}: the ONNX graph gives {outputs}, one `y` is needed")
    outside = [weight.name for weight in model.graph.initializer if weight.data_location == onnx.TensorProto.EXTERNAL]
    if outside:
        raise EngineError(f"{where}: weights {', '.join(outside)} lie outside the ONNX file; save them inside")


def _dims(tensor: Any) -> tuple[int, ...]:
    return tuple(int(dim.dim_value) for dim in tensor.type.tensor_type.shape.dim)


def _check_answers(given: Float32, expected: Float32, *, where: Path) -> None:
    if given.shape != expected.shape:
        raise EngineError(f"{where}: the ONNX graph answers {given.shape}, native answers {expected.shape}")
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    difference = float(np.abs(given - expected).max(initial=0.0)) / scale
    if not difference <= _LARGEST_DIFFERENCE:
        raise EngineError(
            f"{where}: the ONNX graph differs from native by {difference:.2g} of the scale, "
            f"at most {_LARGEST_DIFFERENCE:g} is allowed; use native and report the model"
        )
