"""The ONNX form of a model answers as its own library does."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from raymlops.engine import load_format, read_model
from raymlops.engine.formats.pytorch import build_mlp
from raymlops.errors import EngineError, NotFound
from raymlops.values import Float32

ESTIMATORS = """
import pickle
import sys
import numpy as np
from raymlops.engine.formats.xgboost import import_xgboost
import_xgboost()
assert "sklearn" not in sys.modules
import xgboost
assert not hasattr(xgboost, "nothing")
from xgboost import XGBClassifier
from sklearn.base import ClassifierMixin
from sklearn.model_selection import cross_val_score
x, y = np.arange(100.0).reshape(-1, 1), np.arange(100) > 50
fitted = XGBClassifier(n_estimators=2).fit(x, y)
assert isinstance(fitted, ClassifierMixin)
assert (pickle.loads(pickle.dumps(fitted)).predict(x) == fitted.predict(x)).all()
assert cross_val_score(xgboost.XGBClassifier(n_estimators=2), x, y).mean() > 0.9
"""


def onnx_answers(folder: Path, x: Float32) -> Float32:
    import onnxruntime

    session = onnxruntime.InferenceSession(load_format(folder).to_onnx(folder), providers=["CPUExecutionProvider"])
    assert [(one.name, one.type, one.shape[1:]) for one in session.get_inputs()] == [
        ("x", "tensor(float)", [x.shape[1]])
    ]
    assert [one.name for one in session.get_outputs()] == ["y"]
    return np.asarray(session.run(None, {"x": x})[0])


def trees_of(folder: Path) -> dict[str, Any]:
    graph = onnx.load_model_from_string(load_format(folder).to_onnx(folder)).graph
    return {one.name: onnx.helper.get_attribute_value(one) for one in graph.node[0].attribute}


def assert_alike(folder: Path, x: Float32) -> None:
    native = load_format(folder).load(folder, threads=1).predict(x)
    given = onnx_answers(folder, x)
    assert given.shape == native.shape
    assert given.dtype == np.float32
    assert np.abs(given - native).max() <= 1e-5 * max(1.0, float(np.abs(native).max()))


def test_trees_answer_the_same_in_onnx(trees: Any) -> None:
    assert_alike(trees.folder, np.vstack([trees.sample, np.full_like(trees.sample[:1], np.nan)]))


def test_networks_answer_the_same_in_onnx(network: Any) -> None:
    assert_alike(network.folder, np.vstack([network.sample, np.full_like(network.sample[:1], np.nan)]))


@pytest.mark.parametrize(
    ("task", "classes", "options"),
    [
        ("binary", 2, {"base_score": 0.03}),
        ("binary", 2, {"gamma": 30, "tree_method": "exact"}),
        ("binary", 2, {"gamma": 1e9}),
        ("multiclass", 3, {"num_parallel_tree": 2, "subsample": 0.5}),
        ("regression", 0, {"base_score": -40.0}),
        ("regression", 0, {"objective": "reg:absoluteerror"}),
        ("regression", 0, {"objective": "reg:tweedie", "base_score": 3.0}),
    ],
    ids=["base score", "pruned", "leaves only", "parallel trees", "negative base", "absolute error", "log link"],
)
def test_unusual_trees_answer_the_same_in_onnx(
    task: Any, classes: int, options: dict[str, object], new_trees: Any, trees: Any, tmp_path: Path
) -> None:
    if options.get("objective") == "reg:tweedie":
        options = {**options, "max_delta_step": 0.2}
    assert_alike(new_trees(tmp_path, task, classes=classes, **options), trees.sample)


def test_a_value_on_a_threshold_goes_the_same_way_in_onnx(new_trees: Any, tmp_path: Path) -> None:
    folder = new_trees(tmp_path, "regression", rounds=3)
    attributes = trees_of(folder)
    inner = np.array([mode != b"LEAF" for mode in attributes["nodes_modes"]])
    thresholds = np.array(attributes["nodes_values"], dtype=np.float32)[inner]
    features = np.array(attributes["nodes_featureids"])[inner]
    x = np.zeros((len(thresholds), 5), dtype=np.float32)
    x[np.arange(len(x)), features] = thresholds
    assert len(x) > 10
    assert_alike(folder, x)


def test_what_pruning_cut_off_is_not_written(new_trees: Any, tmp_path: Path) -> None:
    nodes = trees_of(new_trees(tmp_path, "binary", classes=2, tree_method="exact", gamma=5))
    trees = nodes["nodes_treeids"]
    written = set(zip(trees, nodes["nodes_nodeids"], strict=True))
    children = set(zip(trees, nodes["nodes_truenodeids"], strict=True))
    children |= set(zip(trees, nodes["nodes_falsenodeids"], strict=True))
    assert len(written) == len(trees)
    assert written == children | {(tree, 0) for tree in trees}


def test_trees_without_an_onnx_form_are_refused(new_trees: Any, tmp_path: Path) -> None:
    dart = new_trees(tmp_path / "dart", "binary", classes=2, booster="dart")
    with pytest.raises(EngineError, match="booster 'dart' has no ONNX form"):
        load_format(dart).to_onnx(dart)
    hinge = new_trees(tmp_path / "hinge", "binary", classes=2, objective="binary:hinge")
    with pytest.raises(EngineError, match="objective 'binary:hinge' has no ONNX form"):
        load_format(hinge).to_onnx(hinge)


def test_a_folder_without_a_model_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"holds no model\.json"):
        read_model(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps({"format": "xgboost"}))
    with pytest.raises(EngineError, match="task, features, categories missing"):
        read_model(tmp_path)


def test_weights_that_do_not_fit_are_refused(network: Any, tmp_path: Path) -> None:
    value = json.loads((network.folder / "model.json").read_bytes())
    value["params"]["hidden"] = [8]
    (tmp_path / "model.json").write_text(json.dumps(value))
    (tmp_path / "model.safetensors").write_bytes((network.folder / "model.safetensors").read_bytes())
    with pytest.raises(EngineError, match="does not fit"):
        load_format(tmp_path).load(tmp_path, threads=1)
    (tmp_path / "model.safetensors").write_bytes(b"half a fi")
    with pytest.raises(EngineError, match="does not fit"):
        load_format(tmp_path).load(tmp_path, threads=1)


@pytest.mark.parametrize(("start", "end"), [(0, 100), (0, 0), (1, None)], ids=["cut off", "empty", "no start"])
def test_a_damaged_file_of_trees_is_refused(start: int, end: int | None, trees: Any, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_bytes((trees.folder / "model.json").read_bytes())
    (tmp_path / "model.ubj").write_bytes((trees.folder / "model.ubj").read_bytes()[start:end])
    with pytest.raises(EngineError, match="is cut off or no UBJSON"):
        load_format(tmp_path).load(tmp_path, threads=1)


def test_what_is_no_model_of_trees_is_refused(trees: Any, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_bytes((trees.folder / "model.json").read_bytes())
    (tmp_path / "model.ubj").write_bytes(b"{half a file}")
    with pytest.raises(EngineError, match="XGBoost cannot read it"):
        load_format(tmp_path).load(tmp_path, threads=1)


def test_a_network_takes_missing_numbers_as_the_mean_with_a_mark_and_unknown_categories_as_missing() -> None:
    import torch

    torch.manual_seed(1)
    module = build_mlp(2, [0, 3], [4], 1, "binary").eval()
    module.mean.copy_(torch.tensor([5.0, 0.0]))
    nan = float("nan")
    at_mean, missing = module(torch.tensor([[5.0, 1.0], [nan, 1.0]]))
    assert at_mean != missing
    no_category, too_high, negative = module(torch.tensor([[1.0, nan], [1.0, 3.0], [1.0, -1.0]]))
    assert no_category == too_high == negative
    assert len(set(module(torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0], [1.0, nan]])).tolist())) == 4


def test_a_network_can_have_no_hidden_layer_and_only_categories() -> None:
    import torch

    assert build_mlp(1, [2], [], 3, "multiclass")(torch.zeros(4, 1)).shape == (4, 3)
    assert build_mlp(1, [0], [], 1, "regression").logits(torch.zeros(4, 1)).shape == (4,)


def test_xgboost_is_imported_without_sklearn_and_its_estimators_come_when_they_are_asked_for() -> None:
    said = subprocess.run([sys.executable, "-c", ESTIMATORS], capture_output=True, text=True, timeout=100, check=False)
    assert said.returncode == 0, said.stderr
