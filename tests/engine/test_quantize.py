"""Quantization really quantizes, keeps the answers near, and can be repeated."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from raymlops.engine import load_format
from raymlops.engine.engines.onnxruntime import Onnxruntime
from raymlops.engine.quantize import quantized
from raymlops.errors import EngineError


def test_every_matrix_product_is_quantized_for_both_runtimes(network: Any, graph: bytes) -> None:
    made = onnx.load_model_from_string(quantized(graph, sample=network.sample, where=network.folder))
    products = [node for node in made.graph.node if node.op_type in ("Gemm", "MatMul")]
    makers = {output: node.op_type for node in made.graph.node for output in node.output}
    assert len(products) == 3
    assert all(makers[name] == "DequantizeLinear" for node in products for name in node.input[:2])
    weights = {one.name: onnx.numpy_helper.to_array(one) for one in made.graph.initializer}
    zeros = [value for name, value in weights.items() if name.endswith("zero_point")]
    assert zeros
    assert all(value.dtype == np.int8 and not value.any() for value in zeros)
    assert not any(value.dtype == np.int32 for value in weights.values())


def test_int8_answers_stay_near_float32(network: Any, tmp_path: Path) -> None:
    Onnxruntime(precision="int8").compile(network.folder, tmp_path, sample=network.sample)
    given = Onnxruntime(precision="int8").load(network.folder, tmp_path, threads=1).predict(network.sample)
    native = load_format(network.folder).load(network.folder, threads=1).predict(network.sample)
    error = float(np.sqrt(np.mean((given - native) ** 2)) / max(1e-9, float(native.std())))
    assert 0 < error < 0.2


def test_the_same_sample_gives_the_same_bytes(network: Any, graph: bytes) -> None:
    first = quantized(graph, sample=network.sample, where=network.folder)
    assert quantized(graph, sample=network.sample, where=network.folder) == first


def test_int8_without_rows_is_refused(network: Any, graph: bytes) -> None:
    with pytest.raises(EngineError, match="needs rows to find its ranges"):
        quantized(graph, sample=network.sample[:0], where=network.folder)
