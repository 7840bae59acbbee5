"""A home of its own, a registered model and its spec, for tests of one piece without Ray."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import xgboost

from raymlops import registry
from raymlops.codec import dumps
from raymlops.contract import infer
from raymlops.spec import Spec, parse
from raymlops.train.trainers.xgboost import Xgboost
from raymlops.values import Examples, Version


@pytest.fixture(autouse=True)
def _home(home: Path) -> None:
    """Every test here has a home of its own."""


@pytest.fixture
def rows() -> pa.Table:
    random = np.random.default_rng(0)
    x = random.normal(size=400)
    return pa.table({
        "id": np.arange(400), "x": x, "colour": random.choice(["blue", "red"], 400),
        "y": (x > 0).astype(int), "note": [f"n{i}" for i in range(400)],
    })  # fmt: skip


@pytest.fixture
def spec(spec_text: str) -> Spec:
    return parse(spec_text)


@pytest.fixture
def spec_text(tmp_path: Path, rows: pa.Table) -> str:
    (tmp_path / "rows").mkdir()
    for index in range(4):
        pq.write_table(rows.slice(index * 100, 100), tmp_path / "rows" / f"{index}.parquet")
    return f"""
name: m
data: {{source: {{parquet: {tmp_path}/rows}}, label: y, key: [id], exclude: [note]}}
train: {{trainers: {{xgboost: {{}}}}}}
score: {{keep: [note], source: {{parquet: {tmp_path}/rows}}}}
"""


@pytest.fixture
def version(rows: pa.Table, register: Callable[[pa.Table], Version]) -> Version:
    return register(rows)


@pytest.fixture
def register() -> Callable[[pa.Table], Version]:
    """Make a model that is fitted to rows of two colours, one of them red, the champion."""
    return _register


def _register(rows: pa.Table) -> Version:
    contract = infer(rows, features=["x", "colour"], label="y", key=["id"])
    x = np.column_stack([rows.column("x").to_numpy(), np.asarray(rows.column("colour")) == "red"]).astype(np.float32)
    fitted = Xgboost(rounds=5).fit(
        Examples(x=x, y=rows.column("y").to_numpy().astype(np.float64)), None, categories=(0, 2), task="binary",
        classes=2, seed=0, threads=1,
    )  # fmt: skip
    model = {"format": fitted.format, "task": "binary", "classes": 2, "features": 2, "categories": [0, 2], "params": {}}
    files = {**fitted.files, "model.json": dumps(model), "contract.json": dumps(contract.to_json())}
    digest, path = registry.store_folder(files)
    return registry.promote(str(registry.register("m", digest=digest, path=path, run_id=None, tags={})))


@pytest.fixture
def break_rows(tmp_path: Path, rows: pa.Table) -> Callable[[int], None]:
    """Give `count` rows of the first file an unknown colour."""

    def change(count: int) -> None:
        part = rows.slice(0, 100)
        colours = ["mauve"] * count + part.column("colour").to_pylist()[count:]
        pq.write_table(part.set_column(2, "colour", pa.array(colours)), tmp_path / "rows" / "0.parquet")

    return change


@pytest.fixture
def plain_loop(tmp_path: Path, version: Version) -> Callable[[], pa.Table]:
    """Read the files one after another with pyarrow, leave out unknown colours, and ask xgboost."""

    def loop() -> pa.Table:
        read = pa.concat_tables(pq.read_table(path) for path in sorted((tmp_path / "rows").glob("*.parquet")))
        rows = read.filter(pc.is_in(read.column("colour"), pa.array(["blue", "red"])))
        x = np.column_stack([rows.column("x").to_numpy(), np.asarray(rows.column("colour")) == "red"])
        booster = xgboost.Booster(model_file=version.path / "model.ubj")
        answers = booster.inplace_predict(np.ascontiguousarray(x, dtype=np.float32))
        return rows.select(["id", "note"]).append_column("probability", pa.array(answers, pa.float32()))

    return loop
