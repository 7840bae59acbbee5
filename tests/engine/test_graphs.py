"""Graphs made of a version's graph answer as it does: trees as tensors, products in half precision and in 8 bits."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from raymlops.engine import load_format
from raymlops.engine.graph import checked_graph, largest_difference, session
from raymlops.engine.half import halved
from raymlops.engine.quantize import quantized
from raymlops.engine.tensors import as_tensors
from raymlops.errors import EngineError
from raymlops.values import Float32


def ask(graph: bytes, x: Float32) -> Float32:
    """Ask without the optimizations that compute float8 wrongly (onnxruntime 1.32, relative error 2.2 for 0.1)."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return np.asarray(onnxruntime.InferenceSession(graph, options).run(["y"], {"x": x})[0])


def operators(graph: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_model_from_string(graph).graph.node]


def edges(graph: bytes, features: int) -> Float32:
    """Rows on every threshold of the trees, a hair below and above it, the rest missing or drawn."""
    attributes = {
        a.name: helper.get_attribute_value(a) for a in onnx.load_model_from_string(graph).graph.node[0].attribute
    }
    inner = [at for at, mode in enumerate(attributes["nodes_modes"]) if mode != b"LEAF"]
    values = np.array(attributes["nodes_values"], dtype=np.float32)[inner]
    random = np.random.default_rng(0)
    x = random.normal(2, 3, (3 * len(inner), features)).astype(np.float32)
    x[random.random(x.shape) < 0.3] = np.nan
    columns = np.tile(np.array(attributes["nodes_featureids"])[inner], 3)
    near = (np.nextafter(values, -np.inf), values, np.nextafter(values, np.inf))
    x[np.arange(len(x)), columns] = np.concatenate(near)
    return x


@pytest.mark.parametrize("options", [{}, {"num_parallel_tree": 2, "subsample": 0.5}, {"gamma": 30}, {"gamma": 1e9}])
@pytest.mark.parametrize(("task", "classes"), [("binary", 2), ("multiclass", 3), ("regression", 0)])
def test_trees_as_tensors_answer_as_xgboost_does_on_and_beside_every_threshold(
    task: Any, classes: int, options: Any, new_trees: Any, tmp_path: Path
) -> None:
    folder = new_trees(tmp_path, task, classes=classes, rounds=40, max_depth=6, **options)
    kind = load_format(folder)
    graph = kind.to_onnx(folder)
    made = as_tensors(graph, where="test")
    assert not {"TreeEnsembleRegressor", "TreeEnsemble"} & set(operators(made))
    rows = np.vstack([edges(graph, 5), np.full((1, 5), np.nan, np.float32)])
    expected = kind.load(folder, threads=1).predict(rows)
    assert largest_difference(session(made, folder, threads=1).predict(rows), expected) <= 1e-6
    assert as_tensors(graph, where="test") == made


def test_a_graph_without_trees_stays_as_it_is(graph: bytes) -> None:
    assert as_tensors(graph, where="test") is graph


@pytest.mark.parametrize(
    ("word", "value"),
    [("nodes_modes", b"BRANCH_LEQ"), ("aggregate_function", b"MAX"), ("target_ids", 1)],
    ids=["another comparison", "another sum", "two outputs in a tree"],
)
def test_trees_that_tensors_do_not_cover_are_refused(word: str, value: Any, trees: Any) -> None:
    model = onnx.load_model_from_string(load_format(trees.folder).to_onnx(trees.folder))
    node = model.graph.node[0]
    if word == "aggregate_function":
        node.attribute.append(helper.make_attribute(word, value))
    for attribute in node.attribute:
        if attribute.name == word and attribute.strings:
            attribute.strings[:] = [mode if mode == b"LEAF" else value for mode in attribute.strings]
        elif attribute.name == word and attribute.ints:
            attribute.ints[0] += value
    with pytest.raises(EngineError, match="have no form in tensors"):
        as_tensors(model.SerializeToString(), where="test")


def test_half_precision_is_that_of_the_products_alone(network: Any, graph: bytes) -> None:
    made = onnx.load_model_from_string(halved(graph, "fp16"))
    assert (made.graph.input[0].type, made.graph.output[0].type) == (
        onnx.load_model_from_string(graph).graph.input[0].type,
        onnx.load_model_from_string(graph).graph.output[0].type,
    )
    kinds = {one.name: one.data_type for one in made.graph.initializer}
    products = [node for node in made.graph.node if node.op_type in ("Gemm", "MatMul")]
    assert len(products) == 3
    assert {kinds[name] for node in products for name in node.input[1:]} == {TensorProto.FLOAT16}
    expected = load_format(network.folder).load(network.folder, threads=1).predict(network.sample)
    assert 0 < largest_difference(ask(halved(graph, "fp16"), network.sample), expected) < 2e-3


def test_bf16_holds_the_same_weights_in_fewer_bits(graph: bytes) -> None:
    before = {one.name: numpy_helper.to_array(one) for one in onnx.load_model_from_string(graph).graph.initializer}
    after = onnx.load_model_from_string(halved(graph, "bf16")).graph.initializer
    cut = [one for one in after if one.data_type == TensorProto.BFLOAT16]
    assert len(cut) == 6
    for one in cut:
        given = numpy_helper.to_array(one).astype(np.float32)
        assert np.allclose(given, before[one.name.removesuffix(".bf16")], rtol=2**-8)


def test_float8_has_the_places_of_int8_and_answers_near(network: Any, graph: bytes) -> None:
    int8 = quantized(graph, sample=network.sample, where=network.folder)
    made = quantized(graph, sample=network.sample, where=network.folder, form="fp8")
    assert operators(made) == operators(int8)
    kinds = {one.data_type for one in onnx.load_model_from_string(made).graph.initializer}
    assert TensorProto.FLOAT8E4M3FN in kinds
    assert TensorProto.INT8 not in kinds
    expected = load_format(network.folder).load(network.folder, threads=1).predict(network.sample)
    error = float(np.sqrt(np.mean((ask(made, network.sample) - expected) ** 2)) / expected.std())
    assert 0 < error < 0.3


def convolutions() -> bytes:
    """x [batch, 36] as a picture of 6 by 6, two convolutions, a sum."""
    random = np.random.default_rng(0)
    constants = {
        "shape": np.array([-1, 1, 6, 6]),
        "w0": random.normal(0, 0.4, (8, 1, 3, 3)).astype(np.float32),
        "b0": random.normal(0, 0.1, 8).astype(np.float32),
        "w1": random.normal(0, 0.2, (4, 8, 3, 3)).astype(np.float32),
        "axes": np.array([1, 2, 3]),
    }
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["p"]),
        helper.make_node("Conv", ["p", "w0", "b0"], ["c0"]),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("Conv", ["r0", "w1"], ["c1"]),
        helper.make_node("ReduceSum", ["c1", "axes"], ["y"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "picture",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 36])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch"])],
        initializer=[numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def test_convolutions_get_a_form_for_the_cpu_and_one_that_every_runtime_takes(tmp_path: Path) -> None:
    x = np.random.default_rng(1).normal(size=(256, 36)).astype(np.float32)
    forms = {form: quantized(convolutions(), sample=x, where=tmp_path, form=form) for form in ("any", "cpu")}
    kinds = {}
    for form, made in forms.items():
        zeros = [one for one in onnx.load_model_from_string(made).graph.initializer if one.name.endswith("zero_point")]
        kinds[form] = {one.data_type for one in zeros}
        error = ask(made, x) - ask(convolutions(), x)
        assert float(np.sqrt(np.mean(error**2)) / ask(convolutions(), x).std()) < 0.1
    assert kinds == {"any": {TensorProto.INT8}, "cpu": {TensorProto.INT8, TensorProto.UINT8}}


def test_for_the_cpu_what_a_product_gives_is_not_cut_off_at_the_range_of_the_sample(network: Any, graph: bytes) -> None:
    nodes = {
        form: onnx.load_model_from_string(
            quantized(graph, sample=network.sample, where=network.folder, form=form)
        ).graph.node
        for form in ("any", "cpu")
    }
    kept = {
        form: {name for node in found if node.op_type == "Gemm" for name in node.output}
        for form, found in nodes.items()
    }
    asked = {form: {node.op_type for node in found if kept[form] & set(node.input)} for form, found in nodes.items()}
    assert asked["any"] == {"QuantizeLinear"}
    assert "QuantizeLinear" not in asked["cpu"]


def test_a_product_that_the_quantizer_leaves_is_told(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], name="good"),
        helper.make_node("Cast", ["m"], ["d"], to=TensorProto.DOUBLE),
        helper.make_node("MatMul", ["d", "v"], ["n"], name="left"),
        helper.make_node("Cast", ["n"], ["y"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "double",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        initializer=[
            numpy_helper.from_array(np.ones((5, 3), np.float32), "w"),
            numpy_helper.from_array(np.ones((3, 2), np.float64), "v"),
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    with pytest.raises(EngineError, match="left 1 of 2 matrix products in float32"):
        quantized(made, sample=np.ones((8, 5), np.float32), where=tmp_path)


def test_the_graph_of_a_version_is_checked_against_its_own_answers(trees: Any) -> None:
    assert checked_graph(trees.folder, sample=trees.sample) == load_format(trees.folder).to_onnx(trees.folder)
