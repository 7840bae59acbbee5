"""Importance weights are the ratio of densities, 1 where nothing shifted, and an ensemble weighs what rows bear out."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from raymlops.train.ensemble import joined_graph, member_weights
from raymlops.train.shift import effective_share, importance
from raymlops.values import Float32


def drawn(rows: int, *, mean: float, seed: int) -> Float32:
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, 3)).astype(np.float32)
    x[:, 0] += mean
    x[:, 2] = random.integers(4, size=rows)
    return x


def test_weights_are_the_ratio_of_the_densities_where_it_is_known() -> None:
    """Of two normal distributions one apart it is exp(x - 1/2); the other columns say nothing."""
    then, now = drawn(20_000, mean=0.0, seed=0), drawn(20_000, mean=1.0, seed=1)
    weight = importance(then, now, categories=(0, 0, 4), seed=0, threads=1)
    assert weight.dtype == np.float32
    assert weight.mean() == pytest.approx(1.0, abs=1e-5)
    true = then[:, 0] - 0.5
    middle = np.abs(then[:, 0]) < 2
    assert np.corrcoef(np.log(weight[middle]), true[middle])[0, 1] > 0.95
    assert np.average(then[:, 0], weights=weight) == pytest.approx(1.0, abs=0.1)
    # (E w)² / E w² of this ratio is exp(-1).
    assert effective_share(weight) == pytest.approx(np.exp(-1), abs=0.1)


def test_where_nothing_shifted_every_row_counts_the_same() -> None:
    weight = importance(
        drawn(20_000, mean=0.0, seed=0), drawn(5_000, mean=0.0, seed=1), categories=(0, 0, 4), seed=0, threads=1
    )
    assert effective_share(weight) > 0.9
    assert effective_share(np.ones(7, np.float32)) == 1.0


def test_equal_arguments_give_equal_weights() -> None:
    then, now = drawn(500, mean=0.0, seed=0), drawn(300, mean=1.0, seed=1)
    first, again = (importance(then, now, categories=(0, 0, 4), seed=3, threads=1) for _ in range(2))
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_best_mixture_is_found_and_a_useless_member_left_out(task: str) -> None:
    random = np.random.default_rng(0)
    y = random.integers(3 if task == "multiclass" else 2, size=4_000).astype(np.float64)
    if task == "regression":
        y = random.normal(size=4_000)
        members = [y + random.normal(size=4_000), y + random.normal(size=4_000), 9 * random.normal(size=4_000)]
    else:
        made = [np.eye(3 if task == "multiclass" else 2)[y.astype(int)] * 0.5 for _ in range(2)]
        made = [one + random.dirichlet(np.ones(one.shape[1]), size=len(y)) * 0.5 for one in made]
        made.append(random.dirichlet(np.ones(made[0].shape[1]), size=len(y)))
        members = [one if task == "multiclass" else one[:, 1] for one in made]
    weights = member_weights([one.astype(np.float32) for one in members], y, task)  # type: ignore[arg-type]
    assert weights.sum() == pytest.approx(1.0, abs=1e-5)
    assert weights[2] < 0.05
    assert weights[:2].min() > 0.4


def linear(weight: list[float], *, opset: int) -> bytes:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Gather", ["p", "zero"], ["y"], axis=1)]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch"])],
        [
            numpy_helper.from_array(np.array(weight, np.float32)[:, None], "w"),
            numpy_helper.from_array(np.array(0), "zero"),
        ],
    )
    opsets = [helper.make_opsetid("", opset)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def test_graphs_of_several_opsets_become_one() -> None:
    joined = joined_graph(
        [linear([1, 0], opset=13), linear([0, 1], opset=18), linear([2, 2], opset=20)], [0.5, 0.25, 0.25]
    )
    x = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    (told,) = onnxruntime.InferenceSession(joined).run(None, {"x": x})
    np.testing.assert_allclose(told, x @ np.array([1.0, 0.75], np.float32), rtol=1e-5)
    onnx.checker.check_model(onnx.load_model_from_string(joined), full_check=True)
