"""An int8 engine that costs too much keeps the products that suffer most in float32, as few as will do."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from safetensors.torch import load, save

from raymlops import registry
from raymlops.engine import load_format, sensitivities
from raymlops.engine.engines.onnxruntime import Onnxruntime
from raymlops.errors import EngineError
from raymlops.optimize.judge import broken
from raymlops.optimize.measure import build_all, fall_of, measure
from raymlops.optimize.sensitive import with_products_spared
from raymlops.spec import Budget
from raymlops.values import Version
from tests.optimize.conftest import spec_of

INT8: Any = {"onnxruntime": {"precision": "int8"}}


def test_products_that_cost_more_come_first_and_what_is_kept_is_not_quantized(
    root: Path,
    versions: dict[str, Version],
    tmp_path: Path,
) -> None:
    version = versions["pytorch"]
    (one,) = build_all(spec_of(root, engines=[INT8]), [version])
    graph = to_onnx(version)
    costs = sensitivities(graph, sample=one.sample, where=version.path, form="cpu")
    assert list(costs.values()) == sorted(costs.values(), reverse=True)
    first = next(iter(costs))
    Onnxruntime(precision="int8", keep_float=(first,)).compile(version.path, tmp_path, sample=one.sample)
    nodes = onnx.load(tmp_path / "model.onnx").graph.node
    made_by = {output: node.op_type for node in nodes for output in node.output}
    products = {node.name: made_by.get(node.input[0]) for node in nodes if node.op_type == "Gemm"}
    assert {name for name, source in products.items() if source != "DequantizeLinear"} == {first}


def test_a_product_that_is_not_there_is_refused_with_those_that_are(
    root: Path,
    versions: dict[str, Version],
    tmp_path: Path,
) -> None:
    version = versions["pytorch"]
    (one,) = build_all(spec_of(root, engines=[INT8]), [version])
    with pytest.raises(EngineError, match=r"no matrix product is called 'nowhere'; there are \w+"):
        Onnxruntime(precision="int8", keep_float=("nowhere",)).compile(version.path, tmp_path, sample=one.sample)


def test_an_engine_over_budget_gets_a_neighbour_that_keeps_it(root: Path, versions: dict[str, Version]) -> None:
    """A neuron that is always large and means nothing stretches the range of the last product's input."""
    version = with_a_loud_neuron(versions["pytorch"])
    (one,) = build_all(spec_of(root, engines=[INT8]), [version])
    assert fall_of(one, one.predictors["onnxruntime int8"]) > 0.05
    (made,) = with_products_spared([one], Budget(error=0.02))
    assert len(made.candidates) == 2
    spared = made.candidates[1]
    products = [
        node.name for node in onnx.load_model_from_string(to_onnx(version)).graph.node if node.op_type == "Gemm"
    ]
    assert spared.options["keep_float"] == [products[-1]]
    assert spared.label == f"onnxruntime int8 keep_float={products[-1]}"
    assert fall_of(made, made.predictors[spared.label]) <= 0.02


def test_where_no_number_of_them_helps_the_table_says_so(
    root: Path, versions: dict[str, Version], capsys: pytest.CaptureFixture[str]
) -> None:
    """Both products have an input that is always large and means nothing, and one must be quantized."""
    version = with_a_loud_neuron(versions["pytorch"], loud_input=True)
    built, budget = build_all(spec_of(root, engines=[INT8]), [version]), Budget(error=0.02)
    _, spared = measure(with_products_spared(built, budget), rows=1)
    assert spared.options["keep_float"]
    assert "over budget.error=0.02" in broken(spared, budget)
    assert "in float32 it still falls by" in capsys.readouterr().err


def test_a_pruned_network_is_spared_by_what_its_own_graph_suffers(root: Path, versions: dict[str, Version]) -> None:
    """The loud neuron is left out with the half that never varies: what suffers most is another product then."""
    version = with_a_loud_neuron(versions["pytorch"])
    pruned: Any = {"onnxruntime": {"precision": "int8", "prune": 0.5}}
    (one,) = build_all(spec_of(root, engines=[pruned]), [version])
    (made,) = with_products_spared([replace(one, reference=1.0)], Budget(error=1e-9))  # more than any of them reaches
    spared = made.candidates[1]
    whole = sensitivities(to_onnx(version), sample=one.sample, where=version.path, form="cpu")
    first, last = (
        node.name for node in onnx.load_model_from_string(to_onnx(version)).graph.node if node.op_type == "Gemm"
    )
    assert next(iter(whole)) == last
    assert spared.options["keep_float"] == [first]
    assert spared.label == f"onnxruntime int8 keep_float={first} prune=0.5"


def test_an_engine_that_the_spec_names_already_is_not_measured_twice(root: Path, versions: dict[str, Version]) -> None:
    version = with_a_loud_neuron(versions["pytorch"])
    last = [node.name for node in onnx.load_model_from_string(to_onnx(version)).graph.node if node.op_type == "Gemm"][
        -1
    ]
    named: Any = {"onnxruntime": {"precision": "int8", "keep_float": [last]}}
    built = build_all(spec_of(root, engines=[INT8, named]), [version])
    (made,) = with_products_spared(built, Budget(error=0.02))
    assert [one.label for one in made.candidates] == ["onnxruntime int8", f"onnxruntime int8 keep_float={last}"]


def test_products_kept_in_float32_where_all_are_is_refused(versions: dict[str, Version], tmp_path: Path) -> None:
    sample = np.zeros((1, 3), np.float32)
    with pytest.raises(EngineError, match="names what int8 spares"):
        Onnxruntime(keep_float=("a",)).compile(versions["pytorch"].path, tmp_path, sample=sample)


def with_a_loud_neuron(version: Version, *, loud_input: bool = False) -> Version:
    files = {path.name: path.read_bytes() for path in version.path.iterdir()}
    weights = load(files["model.safetensors"])
    weights["layers.0.bias"][0] = 1e6
    weights["layers.3.weight"][:, 0] = 0.0
    if loud_input:
        weights["embeddings.0.weight"][:, 0] = 1e6
        weights["layers.0.weight"][:, 4] = 0.0  # two numbers and whether they are missing come before
    digest, path = registry.store_folder({**files, "model.safetensors": save(weights)})
    return replace(version, digest=digest, path=path)


def test_an_engine_within_budget_is_left_alone(root: Path, versions: dict[str, Version]) -> None:
    built = build_all(spec_of(root, engines=[INT8, "native"]), [versions["pytorch"]])
    assert with_products_spared(built, Budget(error=0.05)) == built


def to_onnx(version: Version) -> bytes:
    return load_format(version.path).to_onnx(version.path)
