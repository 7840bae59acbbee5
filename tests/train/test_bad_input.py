"""What cannot work ends with a sentence that says where and why, and nothing is registered by half."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymlops import registry
from raymlops.errors import DataError, RaymlopsError, SpecError, StageFailed
from raymlops.spec import Spec, parse
from raymlops.train import run


def spec_of(folder: Path, *, trainers: str = "{xgboost: {options: {rounds: 3}}}", more: str = "") -> Spec:
    return parse(
        f"name: bad\ndata: {{source: {{parquet: {folder / 'rows.parquet'}}}, label: y, key: [id], time: day,\n"
        "  windows: {train: [2020-01-01, 2020-02-01], valid: [2020-02-01, 2020-03-01]}}\n"
        f"train: {{repeat: false, trainers: {trainers}{more}}}"
    )


def write_rows(folder: Path, **columns: Any) -> None:
    random = np.random.default_rng(0)
    day = np.datetime64("2020-01-01") + np.arange(600) // 10
    usual = {"x": random.normal(size=600), "y": random.random(600) < 0.5, "day": day, "id": np.arange(600)}
    pq.write_table(pa.table({**usual, **columns}), folder / "rows.parquet")


LATE = np.arange(600) >= 310


def refused(spec: Spec, kind: type[RaymlopsError]) -> str:
    with pytest.raises(kind) as caught:
        run(spec)
    assert registry.listed("bad") == []
    return str(caught.value)


def test_a_label_with_one_class_to_fit_on(home: Path, tmp_path: Path) -> None:
    write_rows(tmp_path, y=LATE)
    assert "label 'y': has 310 values and fewer than 2 different ones to learn from" in refused(
        spec_of(tmp_path), DataError
    )


def test_a_metric_that_no_trial_can_report(home: Path, tmp_path: Path) -> None:
    """All rows that judge are of one class, so there is no area under the curve."""
    write_rows(tmp_path, y=np.where(LATE, True, np.arange(600) % 2 == 0))
    assert "none of 1 trials can be judged by auc; the first says: no trial reports auc" in refused(
        spec_of(tmp_path), StageFailed
    )


def test_a_trainer_that_raises_in_every_trial(home: Path, tmp_path: Path) -> None:
    write_rows(tmp_path)
    spec = spec_of(tmp_path, trainers="{pytorch: {options: {hidden: [4], epochs: 9, learning_rate: 1.0e+30}}}")
    told = refused(spec, StageFailed)
    assert (
        "none of 1 trials can be judged by auc; the first says: StageFailed: train.trainers.pytorch: the loss" in told
    )
    assert "lower learning_rate" in told
    assert refused(spec, StageFailed) == told  # it has failed for good, and is not tried again


@pytest.mark.parametrize("window", ["train", "valid"])
def test_a_window_that_holds_no_row(home: Path, tmp_path: Path, window: str) -> None:
    write_rows(tmp_path)
    spec = spec_of(tmp_path)
    empty = spec.data.window("2030-01-01/2030-02-01", where="x")
    data = spec.data.model_copy(update={"windows": {**spec.data.windows, window: empty}})
    assert f"data.windows.{window}: " in refused(spec.model_copy(update={"data": data}), DataError)


def test_labels_that_are_not_there(home: Path, tmp_path: Path) -> None:
    write_rows(tmp_path, y=pa.nulls(600, pa.float64()))
    assert "label 'y': has 0 values" in refused(spec_of(tmp_path), DataError)


@pytest.mark.parametrize(
    ("trainers", "said"),
    [
        ("{xgboost: {space: {dept: {integers: [1, 3]}}}}", "dept"),
        ("{xgboost: {space: {max_depth: {integers: [3, 3]}}}}", "holds nothing"),
        ("{xgboost: {space: {learning_rate: {log: [-1, 1]}}}}", "has no logarithm"),
        ("{sklearn: {options: {estimator: forest}}}", "estimator"),
        ("{sklearn: {trials: 2, options: {estimator: linear}}}, halving: {}", "has no length to shorten"),
        ("{pytorch: {options: {module: 'nothing:Net'}}}", "cannot be imported"),
    ],
)
def test_a_sweep_that_cannot_be_meant(home: Path, tmp_path: Path, trainers: str, said: str) -> None:
    write_rows(tmp_path)
    with pytest.raises(SpecError, match=said):
        run(spec_of(tmp_path, trainers=trainers))
    assert registry.listed("bad") == []


_FULL = """
import resource, sys
from raymlops import registry
from raymlops.errors import StageFailed
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    registry.store_folder({"small.json": b"{}", "model.ubj": b"x" * 8192})
except StageFailed as error:
    print(error)
    sys.exit(7)
"""


def test_a_store_that_is_full_keeps_nothing(home: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _FULL], capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    assert "models: a version cannot be written: [Errno 27] File too large; nothing of it is registered" in done.stdout
    assert [*(home / "models").iterdir()] == []
