"""What is left out makes the graph smaller, and what does not matter can be left out without a trace."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from raymlops.engine import load_format
from raymlops.engine.engines.onnxruntime import Onnxruntime
from raymlops.engine.formats.xgboost import read_booster
from raymlops.engine.graph import largest_difference, session
from raymlops.engine.prune import pruned
from raymlops.errors import EngineError
from raymlops.values import Float32
from tests.engine.conftest import rows, write_network


def weights(graph: bytes) -> dict[str, Float32]:
    return {one.name: numpy_helper.to_array(one) for one in onnx.load_model_from_string(graph).graph.initializer}


def hidden(graph: bytes) -> list[int]:
    """Widths of what lies between the products."""
    found = weights(graph)
    nodes = [node for node in onnx.load_model_from_string(graph).graph.node if node.op_type == "Gemm"]
    return [int(found[node.input[2]].shape[-1]) for node in nodes[:-1]]


def test_neurons_that_are_left_out_are_gone_from_both_matrices(network: Any) -> None:
    graph = load_format(network.folder).to_onnx(network.folder)
    half = pruned(graph, share=0.5, sample=network.sample, where=network.folder)
    assert hidden(graph) == [32, 16]
    assert hidden(half) == [16, 8]
    assert sum(one.size for one in weights(half).values()) < 0.7 * sum(one.size for one in weights(graph).values())
    assert half == pruned(graph, share=0.5, sample=network.sample, where=network.folder)
    answers = session(half, network.folder, threads=1).predict(network.sample)
    assert answers.shape == session(graph, network.folder, threads=1).predict(network.sample).shape
    assert np.isfinite(answers).all()


def test_neurons_that_never_change_are_left_out_first_and_nobody_can_tell(network: Any) -> None:
    """A third of each hidden layer is made constant: its weights are zero, its bias is not."""

    def die(weight: Float32, bias: Float32) -> None:
        weight[::3], bias[::3] = 0.0, 0.7

    graph = changed(network, die)
    made = pruned(graph, share=0.33, sample=network.sample, where=network.folder)
    assert hidden(made) == [22, 11]
    assert_nobody_can_tell(network, made, graph)


def test_neurons_that_say_what_others_say_are_left_out_and_nobody_can_tell(network: Any) -> None:
    """The second half of each hidden layer is the first one again, three times as loud; the next layer weighs both."""

    def repeat(weight: Float32, bias: Float32) -> None:
        half = len(bias) // 2
        weight[half:], bias[half:] = 3 * weight[:half], 3 * bias[:half]

    graph = changed(network, repeat)
    made = pruned(graph, share=0.5, sample=network.sample, where=network.folder)
    assert hidden(made) == [16, 8]
    assert_nobody_can_tell(network, made, graph)


def changed(network: Any, change: Callable[[Float32, Float32], None]) -> bytes:
    """Return the graph with other weights, [neurons, inputs], and biases in each hidden layer."""
    model = onnx.load_model_from_string(load_format(network.folder).to_onnx(network.folder))
    tensors = {one.name: one for one in model.graph.initializer}
    for node in [node for node in model.graph.node if node.op_type == "Gemm"][:-1]:
        weight, bias = (np.array(numpy_helper.to_array(tensors[name])) for name in node.input[1:])
        change(weight if len(weight) == len(bias) else weight.T, bias)
        for name, value in zip(node.input[1:], (weight, bias), strict=True):
            tensors[name].CopyFrom(numpy_helper.from_array(value, name))
    return bytes(model.SerializeToString())


def assert_nobody_can_tell(network: Any, made: bytes, graph: bytes) -> None:
    """Also on rows that the neurons were not chosen by."""
    x = rows(500, seed=2)
    expected = session(graph, network.folder, threads=1).predict(x)
    answers = session(made, network.folder, threads=1).predict(x)
    assert largest_difference(answers, expected) < 1e-5


def test_the_last_trees_are_left_out_as_xgboost_itself_would(trees: Any) -> None:
    graph = load_format(trees.folder).to_onnx(trees.folder)
    made = pruned(graph, share=0.5, sample=trees.sample, where=trees.folder)
    booster = read_booster(trees.folder)
    kept = -(-booster.num_boosted_rounds() // 2)
    expected = booster.inplace_predict(trees.sample, iteration_range=(0, kept))
    answers = session(made, trees.folder, threads=1).predict(trees.sample)
    assert largest_difference(answers, np.asarray(expected, np.float32).reshape(answers.shape)) < 1e-5
    assert len(made) < 0.7 * len(graph)


def test_one_neuron_and_one_tree_stay_at_least(network: Any, trees: Any) -> None:
    for tiny in (network, trees):
        graph = load_format(tiny.folder).to_onnx(tiny.folder)
        made = pruned(graph, share=0.999, sample=tiny.sample, where=tiny.folder)
        assert np.isfinite(session(made, tiny.folder, threads=1).predict(tiny.sample)).all()


def test_a_pruned_network_can_be_quantized_too(network: Any, tmp_path: Path) -> None:
    sizes = {}
    for share in (0.0, 0.5):
        artefact = tmp_path / str(share)
        artefact.mkdir()
        Onnxruntime(precision="int8", prune=share).compile(network.folder, artefact, sample=network.sample)
        sizes[share] = (artefact / "model.onnx").stat().st_size
    assert sizes[0.5] < sizes[0.0]


@pytest.mark.parametrize(("share", "left"), [(0.7, [3, 30]), (0.29, [8, 71])])
def test_a_share_is_what_it_says_and_not_what_floating_point_makes_of_it(
    tmp_path: Path, share: float, left: list[int]
) -> None:
    """1 - 0.7 of 100 is 30.000…04 in float64, and 0.29 of 100 is 28.999…"""
    folder = write_network(tmp_path, "regression", hidden=(10, 100))
    graph = load_format(folder).to_onnx(folder)
    assert hidden(pruned(graph, share=share, sample=rows(50), where=folder)) == left


def test_a_share_of_less_than_one_is_refused(network: Any, trees: Any) -> None:
    for tiny in (network, trees):
        graph = load_format(tiny.folder).to_onnx(tiny.folder)
        with pytest.raises(EngineError, match=r"prune=0\.001 is less than one neuron or tree"):
            pruned(graph, share=0.001, sample=tiny.sample, where=tiny.folder)


def test_a_graph_in_which_nothing_can_be_left_out_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)]
    float32 = onnx.TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info("x", float32, ["batch", 3])]
    graph = helper.make_graph(nodes, "sum", inputs, [helper.make_tensor_value_info("y", float32, ["batch"])])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()
    with pytest.raises(EngineError, match=r"nothing can be left out: the graph \(ReduceSum\) has no trees"):
        pruned(made, share=0.5, sample=np.zeros((1, 3), np.float32), where=tmp_path)


def test_a_network_without_rows_is_refused(network: Any) -> None:
    graph = load_format(network.folder).to_onnx(network.folder)
    with pytest.raises(EngineError, match="pruning a network needs rows"):
        pruned(graph, share=0.5, sample=network.sample[:0], where=network.folder)
