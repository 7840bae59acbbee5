"""Static quantization of an ONNX graph's matrix products. Knows nothing of versions or of engines."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from raymlops.engine.graph import operators, session
from raymlops.errors import EngineError
from raymlops.values import Float32

__all__ = ["PRODUCTS", "Form", "check_products", "products", "quantized", "sensitivities"]

PRODUCTS = ("MatMul", "Gemm", "Conv")
Form = Literal["any", "cpu", "fp8"]
_BATCH = 256
_LARGEST_INT8, _LARGEST_FP8 = 127, 448


def quantized(graph: bytes, *, sample: Float32, where: Path, form: Form = "any", keep: Sequence[str] = ()) -> bytes:
    """Return the graph with 8-bit weights, a scale a channel, and 8-bit activations in the ranges of the sample.

    "any" is signed and symmetric on both sides with a float bias: the one form that ONNX Runtime and TensorRT both
    take. "cpu", which TensorRT refuses, has unsigned activations, and leaves what a matrix product gives in float32
    until it is asked for: measured on ONNX Runtime, networks gain 1.1 times more than by "any" with half its error,
    because nothing beyond the sample's range is cut off, and convolutions gain 2.4 to 2.6 times where "any" gains none.
    "fp8" has float8 (E4M3) where "any" has int8. ``sample`` is [rows, features], 1 row at least, some hundreds for
    ranges that hold. Products named in ``keep`` stay in float32. Raise EngineError where another one cannot be
    quantized, and for a name that no product has. Equal arguments give equal bytes.
    """
    check_products(graph, where=where, precision="fp8" if form == "fp8" else "int8")
    if not len(sample):
        raise EngineError(f"{where}: int8 needs rows to find its ranges and none are kept; run `raymlops optimize`")
    unknown = sorted(set(keep) - set(products(graph)))
    if unknown:
        raise EngineError(
            f"{where}: no matrix product is called {unknown[0]!r}; there are {', '.join(products(graph))}"
        )
    with TemporaryDirectory(prefix="raymlops-int8-") as folder:
        made = _quantize(graph, Path(folder), sample, signed=form != "cpu", keep=keep)
    _check_quantized(made, where, keep)
    return _as_fp8(made) if form == "fp8" else made


def products(graph: bytes) -> list[str]:
    """Return the names of the matrix products of a graph, in their order."""
    import onnx

    return [node.name for node in onnx.load_model_from_string(graph).graph.node if node.op_type in PRODUCTS]


def sensitivities(graph: bytes, *, sample: Float32, where: Path, form: Form = "any") -> dict[str, float]:
    """Return what each matrix product costs when it alone is quantized, the costliest first.

    The cost is the root mean square of what the answers to the sample change by.
    """
    names, costs = products(graph), dict[str, float]()
    expected = session(graph, where, threads=1).predict(sample)
    for name in names:
        others = [other for other in names if other != name]
        made = session(quantized(graph, sample=sample, where=where, form=form, keep=others), where, threads=1)
        costs[name] = float(np.sqrt(np.mean((made.predict(sample) - expected) ** 2)))
    return dict(sorted(costs.items(), key=lambda pair: -pair[1]))


def check_products(graph: bytes, *, where: Path, precision: str) -> None:
    """Raise EngineError if the graph has no matrix product, so that no other precision than float32 changes it."""
    found = operators(graph)
    if not found & set(PRODUCTS):
        raise EngineError(
            f"{where}: {precision} has nothing to quantize: the graph ({', '.join(sorted(found))}) has no matrix "
            "product, trees compare and add; use precision float32"
        )


def _quantize(graph: bytes, folder: Path, sample: Float32, *, signed: bool, keep: Sequence[str]) -> bytes:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    source, prepared, target = folder / "float.onnx", folder / "prepared.onnx", folder / "int8.onnx"
    source.write_bytes(graph)
    log = logging.getLogger()
    level = log.level
    log.setLevel(logging.ERROR)  # it advises, on the root logger, to do what is done here
    try:
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            _Batches(rows=iter(np.array_split(sample, -(-len(sample) // _BATCH)))),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8 if signed else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=list(PRODUCTS),
            nodes_to_exclude=list(keep),
            extra_options={
                "ActivationSymmetric": signed,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                "OpTypesToExcludeOutputQuantization": [] if signed else ["Gemm", "MatMul"],
            },
        )
    finally:
        log.setLevel(level)
    return target.read_bytes()


def _check_quantized(made: bytes, where: Path, keep: Sequence[str]) -> None:
    """Raise EngineError if a product is left as it was: quantizers leave what they do not know, without a word."""
    import onnx

    nodes = onnx.load_model_from_string(made).graph.node
    makers = {output: node.op_type for node in nodes for output in node.output}
    found = [node for node in nodes if node.op_type in PRODUCTS and node.name not in keep]
    left = [node for node in found if {makers.get(name) for name in node.input[:2]} != {"DequantizeLinear"}]
    if left or not any(node.op_type == "QuantizeLinear" for node in nodes):
        raise EngineError(
            f"{where}: the quantizer left {len(left)} of {len(found)} matrix products in float32 "
            f"({', '.join(node.name for node in left[:3])}); use precision float32"
        )


def _as_fp8(graph: bytes) -> bytes:
    """Return the int8 graph with float8 in the same ranges; zero points are 0, so only weights and scales change.

    onnxruntime's own float8 form keeps the spread, not the range, and one scale a tensor: of a network 14-256-256-1
    its answers were off by 0.17 of their spread, these by 0.14, int8 by 0.08.
    """
    import onnx

    model = onnx.load_model_from_string(graph)
    ratio = np.float32(_LARGEST_INT8 / _LARGEST_FP8)
    scales = {node.input[1] for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")}
    for tensor in model.graph.initializer:
        if tensor.name in scales:
            value: Any = onnx.numpy_helper.to_array(tensor) * ratio
        elif tensor.data_type == onnx.TensorProto.INT8:
            levels = onnx.numpy_helper.to_array(tensor).astype(np.float32) / ratio
            value = levels.astype(onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.FLOAT8E4M3FN))
        else:
            continue
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.asarray(value), tensor.name))
    del model.graph.value_info[:]
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batches:
    """What the calibrator asks for its next rows, None at the end."""

    rows: Iterator[npt.NDArray[np.float32]]

    def get_next(self) -> dict[str, Float32] | None:
        batch = next(self.rows, None)
        return None if batch is None else {"x": np.ascontiguousarray(batch)}
