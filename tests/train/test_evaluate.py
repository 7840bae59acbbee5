"""A version says how good it is as a whole, by period and by slice, with intervals; the same from run to run."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymlops import registry
from raymlops.contract import encode
from raymlops.data import read_contract
from raymlops.engine import load_format
from raymlops.spec import parse
from raymlops.stats import interval
from raymlops.train import run


@pytest.fixture
def made(home: Path, tmp_path: Path) -> tuple[dict[str, Any], Path, pa.Table]:
    random = np.random.default_rng(0)
    x, colour = random.normal(size=3_000), random.choice(["red", "green", "rare"], p=[0.5, 0.49, 0.01], size=3_000)
    y = np.where(colour == "red", x, 0.1 * x) + random.normal(size=3_000) > 0
    x[::9] = np.nan
    days = np.datetime64("2020-01-01") + np.arange(3_000) // 25
    rows = pa.table({"x": pa.array(x, from_pandas=True), "colour": colour, "one": np.ones(3_000), "y": y, "day": days,
                     "id": np.arange(3_000)})  # fmt: skip
    pq.write_table(rows, tmp_path / "rows.parquet")
    spec = parse(
        f"name: judged\ndata: {{source: {{parquet: {tmp_path / 'rows.parquet'}}}, label: y, key: [id], time: day,\n"
        "  windows: {train: [2020-01-01, 2020-03-01], valid: [2020-03-01, 2020-05-01]}}\n"
        "train: {repeat: false, trainers: {xgboost: {options: {rounds: 20, max_depth: 3}}}}"
    )
    version = registry.resolve(str(run(spec)["model"]))
    return json.loads((version.path / "evaluation.json").read_bytes()), version.path, rows


def test_every_slice_has_the_metric_of_its_rows(made: tuple[dict[str, Any], Path, pa.Table]) -> None:
    told, folder, rows = made
    judged = rows.filter(pa.compute.greater_equal(rows.column("day"), pa.scalar(date(2020, 3, 1))))
    contract = read_contract(folder)
    x = encode(contract, {name: judged.column(name) for name in contract.names}).x
    p = load_format(folder).load(folder, threads=1).predict(x)
    y = np.asarray(judged.column("y")).astype(np.float64)
    slices = {one["name"]: one for one in told["slices"]}
    red = np.asarray(judged.column("colour")) == "red"
    expected = interval("auc", y[red], p[red])
    assert slices["colour = red"]["rows"] == red.sum()
    assert slices["colour = red"]["interval"] == pytest.approx([expected.value, expected.low, expected.high], abs=1e-5)
    assert slices["colour = rare"]["interval"] is None  # too few rows to say anything
    assert slices["colour = red"]["interval"][0] > slices["colour = green"]["interval"][2]
    quarters = [one for name, one in slices.items() if name.startswith("x [")]
    assert len(quarters) == 4
    assert sum(one["rows"] for one in quarters) + slices["x missing"]["rows"] == len(y)
    assert not any(name.startswith("one") for name in slices)  # a column of one value has no parts


def test_whole_and_periods_have_intervals_around_their_metric(made: tuple[dict[str, Any], Path, pa.Table]) -> None:
    told = made[0]
    assert set(told["intervals"]) == set(told["metrics"]) == {"auc", "accuracy", "logloss"}
    for name, (value, low, high) in told["intervals"].items():
        assert low < value < high
        assert value == pytest.approx(told["metrics"][name], abs=1e-5)
    assert list(told["periods"]) == ["2020-03", "2020-04"]
    for period in told["periods"].values():
        assert period["interval"][0] == pytest.approx(period["auc"], abs=1e-5)
