"""Every kind of trainer keeps the same laws, for every task."""

from typing import get_args, get_type_hints

import numpy as np
import onnxruntime
import pytest

from raymlops.errors import DataError, SpecError
from raymlops.protocols import Trainer
from raymlops.testing.trainer_laws import check_trainer
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
        Pytorch(hidden=(16,), epochs=6, batch_size=128, learning_rate=0.01),
        *(Sklearn(estimator=kind) for kind in get_args(get_type_hints(Sklearn)["estimator"])),
    ],
    ids=lambda trainer: getattr(trainer, "estimator", type(trainer).__name__.lower()),
)  # fmt: skip
def test_a_trainer_keeps_the_laws(trainer: Trainer, task: Task) -> None:
    check_trainer(trainer, _rows(task, seed=0), _rows(task, seed=1), categories=CATEGORIES, task=task)


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
