"""Every kind of trainer keeps the same laws, for every task."""

from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import onnxruntime
import pytest
import xgboost as xgb

from raymlops.engine import cuda
from raymlops.errors import DataError, EngineError, SpecError, StageFailed
from raymlops.protocols import Trainer
from raymlops.testing.trainer_laws import check_spread, check_trainer
from raymlops.train.preparation import Preparation
from raymlops.train.trainers.pytorch import Pytorch
from raymlops.train.trainers.sklearn import Sklearn
from raymlops.train.trainers.xgboost import Xgboost
from raymlops.values import Examples, Task

CATEGORIES = (0, 0, 3)


def _rows(task: Task, *, seed: int, rows: int = 1500) -> Examples:
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, 3)).astype(np.float32)
    x[:, 2] = random.integers(3, size=rows)
    signal = x[:, 0] + 0.5 * x[:, 2]
    x[random.random(size=rows) < 0.1, 1] = np.nan
    y = {"regression": signal, "binary": signal > 0.5, "multiclass": np.digitize(signal, [0.0, 1.0])}[task]
    return Examples(x=x, y=y.astype(np.float64))


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize(
    "trainer", [
        Xgboost(rounds=30, max_depth=3),
        Xgboost(rounds=30, max_depth=3, categorical=True),
        Pytorch(hidden=(16,), epochs=6, batch_size=128, learning_rate=0.01, precision="bf16"),
        Pytorch(module="tests.train.networks:Wide", arguments={"hidden": 16}, epochs=6, batch_size=128),
        Pytorch(hidden=(16,), epochs=6, batch_size=128, learning_rate=0.01),
        *(Sklearn(estimator=kind) for kind in get_args(get_type_hints(Sklearn)["estimator"])),
    ],
    ids=lambda trainer: getattr(trainer, "estimator", type(trainer).__name__.lower()),
)  # fmt: skip
def test_a_trainer_keeps_the_laws(trainer: Trainer, task: Task) -> None:
    check_trainer(trainer, _rows(task, seed=0), _rows(task, seed=1), categories=CATEGORIES, task=task)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize(
    "trainer", [
        Xgboost(rounds=30, max_depth=3),
        Pytorch(hidden=(16,), epochs=6, batch_size=128, learning_rate=0.01),
    ],
    ids=lambda trainer: type(trainer).__name__.lower(),
)  # fmt: skip
def test_a_trainer_keeps_the_laws_when_its_fit_is_spread(trainer: Trainer, task: Task) -> None:
    check_spread(trainer, _rows(task, seed=0), _rows(task, seed=1), categories=CATEGORIES, task=task)


def test_trees_after_the_best_round_are_cut_off_and_the_rounds_pinned() -> None:
    fitted = Xgboost(rounds=200, learning_rate=0.5, patience=5).fit(
        _rows("binary", seed=0), _rows("binary", seed=1), categories=CATEGORIES, task="binary", classes=2, seed=0,
        threads=1,
    )  # fmt: skip
    rounds = fitted.params["rounds"]
    assert isinstance(rounds, int)
    assert rounds < 200
    assert fitted.params["patience"] == 0


def test_pinned_parameters_make_the_same_model_without_validation_rows() -> None:
    train, valid = _rows("binary", seed=0), _rows("binary", seed=1)
    given = {"categories": CATEGORIES, "task": "binary", "classes": 2, "seed": 3, "threads": 1}
    first = Xgboost(rounds=100, learning_rate=0.5, patience=5).fit(train, valid, **given)  # type: ignore[arg-type]
    again = Xgboost(**first.params).fit(train, None, **given)  # type: ignore[arg-type]
    assert again.files == first.files


@pytest.mark.parametrize("apart", [False, True])
def test_rows_are_prepared_in_onnx_as_in_numpy(apart: bool) -> None:
    x = _rows("binary", seed=0).x
    x[::7, 0], x[::5, 2] = np.nan, np.nan
    made = Preparation.of(x, CATEGORIES, apart=apart)
    graph = made.graph()
    (told,) = onnxruntime.InferenceSession(graph.SerializeToString()).run(None, {"x": x})
    np.testing.assert_array_equal(told, made.prepared(x))
    assert told.shape == (len(x), made.width) == (len(x), 2 + 2 + (3 if apart else 1))
    assert np.isfinite(told).all()


def test_a_class_that_no_row_has_is_answered_with_zero() -> None:
    rows = _rows("multiclass", seed=0)
    known = rows.y != 1
    fitted = Sklearn().fit(
        Examples(x=rows.x[known], y=rows.y[known]), None, categories=CATEGORIES, task="multiclass", classes=3, seed=0,
        threads=1,
    )  # fmt: skip
    (told,) = onnxruntime.InferenceSession(fitted.files["model.onnx"]).run(["y"], {"x": rows.x})
    assert told.shape == (len(rows.x), 3)
    assert (told[:, 1] == 0).all()
    np.testing.assert_allclose(told.sum(axis=1), 1.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("trainer", "said"),
    [
        (Sklearn(estimator="linear", n_estimators=3), "LogisticRegression has no option n_estimators"),
        (Sklearn(estimator="random_forest", c=1.0), "RandomForestClassifier has no option C"),
    ],
)
def test_an_option_that_the_estimator_lacks_is_refused(trainer: Sklearn, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        trainer.fit(_rows("binary", seed=0), None, categories=CATEGORIES, task="binary", classes=2, seed=0, threads=1)


def test_forests_are_shortened_and_a_linear_model_has_no_length() -> None:
    assert Sklearn(n_estimators=30).shortened(1 / 3).n_estimators == 10
    assert Sklearn(estimator="hist_gradient_boosting").shortened(0.5).max_iter == 50
    with pytest.raises(SpecError, match="has no length"):
        Sklearn(estimator="linear").shortened(0.5)


def test_one_class_is_refused() -> None:
    rows = _rows("binary", seed=0)
    with pytest.raises(DataError, match="one class of 2"):
        Sklearn().fit(
            Examples(x=rows.x, y=np.zeros_like(rows.y)), None, categories=CATEGORIES, task="binary", classes=2, seed=0,
            threads=1,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("module", "arguments", "said"),
    [
        ("tests.train.networks:Narrow", {}, r"gives \(3, 2\) for 3 rows, \(3, 1\) is needed"),
        ("tests.train.networks:Broken", {}, "fails on 3 rows of 3"),
        ("tests.train.networks:Plain", {}, "makes a Plain, not a torch.nn.Module"),
        ("tests.train.networks:Wide", {"hiden": 3}, "it is called with features, categories, outputs, hiden"),
        ("tests.train.networks:None", {}, "cannot be imported"),
        ("tests.train.nothing:Wide", {}, "cannot be imported"),
        ("tests.train.networks", {}, "write FILE:CLASS"),
    ],
)
def test_a_module_that_cannot_be_taken_is_refused_with_its_place(module: str, arguments: Any, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        Pytorch(module=module, arguments=arguments).fit(
            _rows("binary", seed=0), None, categories=CATEGORIES, task="binary", classes=2, seed=0, threads=1
        )


def test_the_graph_of_a_module_names_no_folder_of_this_machine() -> None:
    fitted = Pytorch(module="tests.train.networks:Wide", arguments={"hidden": 4}, epochs=1).fit(
        _rows("binary", seed=0), None, categories=CATEGORIES, task="binary", classes=2, seed=0, threads=1
    )
    assert set(fitted.files) == {"model.onnx", "model.safetensors"}
    assert str(Path(__file__).parents[2]).encode() not in fitted.files["model.onnx"]
    assert b"site-packages" not in fitted.files["model.onnx"]


def test_a_fit_that_diverges_says_so() -> None:
    rows = _rows("regression", seed=0)
    with pytest.raises(StageFailed, match=r"the loss is (nan|inf) after epoch .*lower learning_rate, 1e\+30 given"):
        Pytorch(hidden=(8,), learning_rate=1e30, epochs=20).fit(
            rows, None, categories=CATEGORIES, task="regression", classes=0, seed=0, threads=1
        )


@pytest.mark.parametrize("trainer", [Pytorch(device="cuda"), Xgboost(device="cuda")], ids=["pytorch", "xgboost"])
def test_a_fit_on_a_gpu_where_there_is_none_is_refused(trainer: Trainer) -> None:
    assert trainer.gpus() == 1.0
    try:
        cuda.require("here")
    except EngineError:
        with pytest.raises(EngineError, match=r"train\.trainers\.\w+\.device"):
            trainer.fit(
                _rows("binary", seed=0), None, categories=CATEGORIES, task="binary", classes=2, seed=0, threads=1
            )
    else:
        pytest.skip("this machine has a GPU")


def test_categories_are_split_into_sets_where_that_is_asked_for() -> None:
    """The middle one of three categories is told from both others by one split, which an order of them cannot."""
    x = np.random.default_rng(0).integers(3, size=(600, 1)).astype(np.float32)
    rows = Examples(x=x, y=(x[:, 0] == 1).astype(np.float64))
    told = {}
    for categorical in (False, True):
        trainer = Xgboost(rounds=1, max_depth=1, learning_rate=1.0, categorical=categorical)
        fitted = trainer.fit(rows, None, categories=(3,), task="binary", classes=2, seed=0, threads=1)
        model = xgb.Booster(model_file=bytearray(fitted.files["model.ubj"]))
        kinds = ["c"] if categorical else ["float"]
        made = xgb.DMatrix(x, feature_types=kinds, enable_categorical=categorical)
        told[categorical] = np.mean((model.predict(made) > 0.5) == rows.y)
    assert told[False] < 0.8
    assert told[True] == 1.0
