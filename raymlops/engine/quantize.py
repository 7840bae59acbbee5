"""Static int8 quantization of an ONNX graph's matrix products. Knows nothing of versions or of engines."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from raymlops.errors import EngineError
from raymlops.values import Float32

__all__ = ["quantized"]

_PRODUCTS = ("MatMul", "Gemm", "Conv")
_BATCH = 256


def quantized(graph: bytes, *, sample: Float32, where: Path) -> bytes:
    """Return the graph with int8 weights, a scale a channel, and int8 activations in the ranges of the sample.

    Signed and symmetric on both sides with a float bias: the one form that ONNX Runtime and TensorRT both take.
    ``sample`` is [rows, features], 1 row at least, some hundreds for ranges that hold. Raise EngineError where
    nothing can be quantized. Equal arguments give equal bytes.
    """
    import onnx

    operators = {node.op_type for node in onnx.load_model_from_string(graph).graph.node}
    if not operators & set(_PRODUCTS):
        raise EngineError(
            f"{where}: int8 has nothing to quantize: the graph ({', '.join(sorted(operators))}) has no matrix "
            "product, trees compare and add; use precision float32"
        )
    if not len(sample):
        raise EngineError(f"{where}: int8 needs rows to find its ranges and none are kept; run `raymlops optimize`")
    with TemporaryDirectory(prefix="raymlops-int8-") as folder:
        made = _quantize(graph, Path(folder), sample)
    count = sum(node.op_type == "QuantizeLinear" for node in onnx.load_model_from_string(made).graph.node)
    if not count:
        raise EngineError(f"{where}: the quantizer left every matrix product as it was; use precision float32")
    return made


def _quantize(graph: bytes, folder: Path, sample: Float32) -> bytes:
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
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=list(_PRODUCTS),
            extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False},
        )
    finally:
        log.setLevel(level)
    return target.read_bytes()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batches:
    """What the calibrator asks for its next rows, None at the end."""

    rows: Iterator[npt.NDArray[np.float32]]

    def get_next(self) -> dict[str, Float32] | None:
        batch = next(self.rows, None)
        return None if batch is None else {"x": np.ascontiguousarray(batch)}
