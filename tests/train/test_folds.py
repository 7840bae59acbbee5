"""Trials are compared by folds, the rows of `train.validate` take no part in the choice, and classes have weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymlops import registry
from raymlops.contract import Label
from raymlops.errors import SpecError
from raymlops.spec import Spec, parse
from raymlops.train import check, rebuild, run
from raymlops.train.seeds import seed_of
from raymlops.train.sweep import Result, best
from raymlops.train.weights import weighted
from raymlops.values import Examples

LABEL = Label(name="y", task="binary", classes=("no", "yes"))


def write_rows(folder: Path, *, rare: float = 0.0) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(3_000, 3)).astype(np.float32)
    y = x[:, 0] * x[:, 1] + 0.5 * random.normal(size=len(x)) > rare
    columns: dict[str, Any] = {f"f{j}": x[:, j] for j in range(3)}
    days = np.datetime64("2020-01-01") + np.arange(len(x)) // 10
    pq.write_table(pa.table({**columns, "y": y, "id": np.arange(len(x)), "day": days}), folder / "rows.parquet")


def spec_of(folder: Path, train: str) -> Spec:
    return parse(
        f"name: folded\ndata: {{source: {{parquet: {folder / 'rows.parquet'}}}, label: y, key: [id], time: day,\n"
        "  windows: {train: [2020-01-01, 2020-08-01], valid: [2020-08-01, 2020-10-27]}}\n"
        f"train: {{repeat: false, {train}}}"
    )


XGBOOST = "trainers: {xgboost: {options: {rounds: 60, patience: 4, learning_rate: 0.5}}}"


@pytest.mark.parametrize("folds", ["3", "{count: 3, by: time, gap_days: 5}"])
def test_a_model_is_fitted_to_all_rows_by_what_the_folds_found(home: Path, tmp_path: Path, folds: str) -> None:
    write_rows(tmp_path)
    made: Any = run(spec_of(tmp_path, f"folds: {folds}, {XGBOOST}"))
    version = registry.resolve(made["model"])
    told = json.loads((version.path / "evaluation.json").read_bytes())
    assert [set(fold) for fold in told["folds"]] == [{"auc", "logloss", "accuracy"}] * 3
    assert len({fold["auc"] for fold in told["folds"]}) == 3
    assert told["value"] == made["value"] > 0.7
    params = json.loads((version.path / "model.json").read_bytes())["params"]
    assert 0 < params["rounds"] < 60
    assert params["patience"] == 0
    assert rebuild(version).verdict == "bit-equal"
    assert run(spec_of(tmp_path, f"folds: {folds}, {XGBOOST}"))["model"] == made["model"]


def test_the_rows_that_judge_the_winner_take_no_part_in_its_choice() -> None:
    def result(index: int, folds: list[float], value: float) -> Result:
        return Result(
            index=index, trainer="t", options={}, seed=0, params={}, seconds=0.0, metrics={"auc": value},
            folds=[{"auc": fold} for fold in folds],
        )  # fmt: skip

    winner = best([result(0, [0.6, 0.8], 0.9), result(1, [0.7, 0.74], 0.1)], "auc")
    assert winner is not None
    assert winner.index == 1
    assert np.isnan(result(2, [0.5, 0.5], 0.5).judged("logloss"))


def test_each_fold_has_a_seed_of_its_own_below_that_of_its_trial() -> None:
    seeds = {seed_of(seed_of(7, "trial", trial), "fold", fold) for trial in range(20) for fold in range(20)}
    assert len(seeds) == 400


def test_weights_of_classes_are_one_in_the_mean_and_balanced_ones_add_up_alike() -> None:
    rows = Examples(x=np.zeros((10, 1), np.float32), y=np.array([1.0] * 2 + [0.0] * 8))
    assert weighted(rows, None, LABEL) is rows
    balanced = weighted(rows, "balanced", LABEL).weight
    assert balanced is not None
    np.testing.assert_allclose(balanced, [2.5] * 2 + [0.625] * 8)
    given = weighted(rows, {"yes": 6.0}, LABEL).weight
    assert given is not None
    np.testing.assert_allclose(given, np.array([6.0] * 2 + [1.0] * 8) / 2, rtol=1e-6)
    twice = weighted(weighted(rows, "balanced", LABEL), "balanced", LABEL).weight
    assert twice is not None
    np.testing.assert_allclose(twice[0] / twice[-1], 16.0, rtol=1e-6)


def test_classes_are_named_as_yaml_writes_them(home: Path, tmp_path: Path) -> None:
    write_rows(tmp_path)
    check(spec_of(tmp_path, f"class_weight: {{true: 2, false: 1}}, {XGBOOST}"))
    numbers = parse(
        f"name: a\ndata: {{source: {{csv: a}}, label: y}}\ntrain: {{class_weight: {{0: 1, 1: 3}}, {XGBOOST}}}"
    )
    assert numbers.train.class_weight == {"0": 1.0, "1": 3.0}


def test_weights_of_a_label_without_such_classes_are_refused_in_every_fit() -> None:
    rows = Examples(x=np.zeros((2, 1), np.float32), y=np.zeros(2))
    with pytest.raises(SpecError, match="is a number and has no classes"):
        weighted(rows, "balanced", Label(name="y", task="regression"))
    with pytest.raises(SpecError, match="'maybe' is no class of 'y'"):
        weighted(rows, {"maybe": 2.0}, LABEL)


def test_a_balanced_fit_calls_the_rare_class_as_often_as_the_other(home: Path, tmp_path: Path) -> None:
    write_rows(tmp_path, rare=1.5)
    plain, balanced = (
        json.loads(
            (registry.resolve(str(run(spec_of(tmp_path, words))["model"])).path / "evaluation.json").read_bytes()
        )
        for words in (XGBOOST, f"class_weight: balanced, {XGBOOST}")
    )
    assert balanced["metrics"]["accuracy"] < plain["metrics"]["accuracy"]
    assert balanced["metrics"]["logloss"] > 1.2 * plain["metrics"]["logloss"]
    version = registry.resolve("folded@2")
    assert rebuild(version).verdict == "bit-equal"


def test_a_version_that_is_fitted_again_needs_no_folds(home: Path, tmp_path: Path) -> None:
    """Its options are those of the version, also on a window that is too small for folds."""
    write_rows(tmp_path)
    made: Any = run(spec_of(tmp_path, f"folds: 40, {XGBOOST}"))
    spec = spec_of(tmp_path, f"folds: {{count: 40, by: time}}, {XGBOOST}")
    few = spec.data.window("2020-05-01/2020-05-09", where="few")
    spec = spec.model_copy(update={"data": spec.data.model_copy(update={"windows": {**spec.data.windows, "few": few}})})
    again: Any = run(spec, model=made["model"], on="few")
    assert "folds" not in json.loads((registry.resolve(again["model"]).path / "evaluation.json").read_bytes())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("class_weight: {tru: 2}", r"train\.class_weight: 'tru' is no class of 'y'; did you mean 'true'\?"),
        ("class_weight: {true: 0}", "greater than 0"),
        ("folds: 1", r"train\.folds"),
        ("folds: {count: 3, by: time, group: [id]}", "by: time takes them in their order"),
        ("folds: {count: 3, gap_days: 3}", "needs by: time"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_runs(tmp_path: Path, words: str, said: str) -> None:
    write_rows(tmp_path)
    with pytest.raises(SpecError, match=said):
        check(spec_of(tmp_path, f"{words}, {XGBOOST}"))


def test_a_fold_by_time_needs_a_time(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"by: time needs `data\.time`"):
        parse(f"name: a\ndata: {{source: {{csv: a}}, label: y}}\ntrain: {{folds: {{by: time}}, {XGBOOST}}}")
