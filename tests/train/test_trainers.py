"""Every kind of trainer keeps the same laws, for every task."""

import numpy as np
import pytest

from raymlops.protocols import Trainer
from raymlops.testing.trainer_laws import check_trainer
from raymlops.train.trainers.pytorch import Pytorch
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
    "trainer", [Xgboost(rounds=30, max_depth=3), Pytorch(hidden=(16,), epochs=6, batch_size=128, learning_rate=0.01)],
    ids=["xgboost", "pytorch"],
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
