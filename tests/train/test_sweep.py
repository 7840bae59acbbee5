"""A sweep is decided before it runs, and the same section gives the same trials."""

import numpy as np
import pytest

from raymlops.errors import SpecError
from raymlops.spec import TrainSpec
from raymlops.stats import metric_value
from raymlops.train import Result, best, best_of_each, first_batch, metric_for

SECTION = TrainSpec.model_validate({
    "seed": 7,
    "trainers": {
        "xgboost": {"trials": 5, "options": {"rounds": 9}, "space": {"max_depth": {"integers": [2, 6]}}},
        "pytorch": {"trials": 2, "space": {"hidden": {"choice": [[8], [16, 8]]}}},
    },
})  # fmt: skip


def _result(index: int, trainer: str, **metrics: float) -> Result:
    return Result(index=index, trainer=trainer, options={}, seed=0, params={}, metrics=metrics, seconds=1.0)


def test_the_same_section_gives_the_same_first_batch() -> None:
    assert first_batch(SECTION) == first_batch(SECTION)


def test_trainers_take_turns_and_get_as_many_trials_as_asked() -> None:
    names = [trial.trainer for trial in first_batch(SECTION)]
    assert names == ["xgboost", "pytorch", "xgboost", "pytorch", "xgboost", "xgboost", "xgboost"]


def test_another_seed_gives_other_trials_and_every_trial_its_own_seed() -> None:
    other = SECTION.model_copy(update={"seed": 8})
    assert [t.seed for t in first_batch(SECTION)] != [t.seed for t in first_batch(other)]
    assert len({t.seed for t in first_batch(SECTION)}) == 7


def test_more_trials_leave_the_first_ones_as_they_were() -> None:
    only = SECTION.trainers["xgboost"]
    few = SECTION.model_copy(update={"trainers": {"xgboost": only}})
    many = SECTION.model_copy(update={"trainers": {"xgboost": only.model_copy(update={"trials": 9})}})
    assert first_batch(many)[:5] == first_batch(few)


def test_a_drawn_value_that_the_trainer_refuses_is_named() -> None:
    wrong = TrainSpec.model_validate(
        {"trainers": {"xgboost": {"trials": 1, "space": {"max_depth": {"uniform": [2.5, 2.6]}}}}}
    )
    with pytest.raises(SpecError, match=r"space: .*max_depth"):
        first_batch(wrong)


def test_the_best_is_the_largest_auc_and_the_smallest_loss_first_of_equals() -> None:
    results = [_result(0, "a", auc=0.7, logloss=0.3), _result(1, "b", auc=0.8, logloss=0.4), _result(2, "a", auc=0.8)]
    assert best(results, "auc") == results[1]
    assert best(results, "logloss") == results[0]
    assert best([_result(0, "a", auc=float("nan"))], "auc") is None
    assert best_of_each(results, "auc") == {"a": results[2], "b": results[1]}


def test_a_metric_without_meaning_for_the_task_is_refused() -> None:
    with pytest.raises(SpecError, match="'rmse' has no meaning for binary; allowed are auc, logloss, accuracy"):
        metric_for("binary", "rmse")


def test_metrics_agree_with_their_definitions() -> None:
    y, p = np.array([0.0, 1.0, 1.0]), np.array([0.2, 0.9, 0.4], np.float32)
    assert metric_value("auc", y, p) == 1.0
    assert metric_value("accuracy", y, p) == pytest.approx(2 / 3)
    assert metric_value("logloss", y, p) == pytest.approx(-np.mean(np.log([0.8, 0.9, 0.4])), rel=1e-5)
    assert metric_value("rmse", y, p) == pytest.approx(np.sqrt(np.mean((y - p) ** 2)), rel=1e-6)
    assert np.isnan(metric_value("auc", np.ones(3), p))


def test_multiclass_auc_is_the_mean_of_one_against_the_rest() -> None:
    y = np.array([0.0, 1.0, 2.0, 0.0])
    assert metric_value("auc", y, np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]) == 1.0
