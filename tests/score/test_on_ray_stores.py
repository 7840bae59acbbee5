"""Runs that read and write Delta tables and an object store, through the command. With Ray."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import obstore
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from obstore.store import from_url

from raymlops import cluster, registry
from raymlops.codec import dumps
from raymlops.contract import infer
from raymlops.data import read_answers, read_scores
from raymlops.train.trainers.xgboost import Xgboost
from raymlops.values import Examples

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]
ROWS = 3_000


def _rows() -> pa.Table:
    x = np.random.default_rng(0).normal(size=ROWS)
    return pa.table({"id": np.arange(ROWS), "x": x, "y": (x > 0).astype(int)})


@pytest.fixture(scope="module")
def place(s3_of_module: str) -> Iterator[Path]:
    """A home with a model, and a cluster whose processes know the store as this one does."""
    with tempfile.TemporaryDirectory(prefix="rml-") as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        patch.setenv("RAYMLOPS_HOME", str(folder / "home"))
        patch.setenv("RAY_AUTH_MODE", "token")
        _register(_rows())
        running = cluster.start(cpus=2)
        try:
            yield folder
        finally:
            cluster.stop(running)


def _register(table: pa.Table) -> None:
    x = table.column("x").to_numpy().astype(np.float32)[:, None]
    examples = Examples(x=x, y=table.column("y").to_numpy().astype(np.float64))
    fitted = Xgboost(rounds=3).fit(examples, None, categories=(0,), task="binary", classes=2, seed=0, threads=1)
    model = {"format": fitted.format, "task": "binary", "classes": 2, "features": 1, "categories": [0], "params": {}}
    contract = infer(table, features=["x"], label="y", key=["id"])
    files = {**fitted.files, "model.json": dumps(model), "contract.json": dumps(contract.to_json())}
    digest, path = registry.store_folder(files)
    registry.promote(str(registry.register("m", digest=digest, path=path, run_id=None, tags={})))


def _score(place: Path, *, source: str, sink: str) -> tuple[dict[str, object], str]:
    """Return what the command tells, as a machine reads it and as a person does."""
    (place / "spec.yaml").write_text(f"""
name: m
data: {{source: {{parquet: {place}/absent}}, label: y, key: [id]}}
train: {{trainers: {{xgboost: {{}}}}}}
score: {{source: {source}, sink: {sink}}}
""")
    environ = {**os.environ, "RAYMLOPS_HOME": str(place / "home"), "RAY_AUTH_MODE": "token"}
    done = subprocess.run(
        [sys.executable, "-m", "raymlops", "score", "spec.yaml", "--json"], cwd=place, env=environ, text=True,
        capture_output=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return orjson.loads(done.stdout), done.stderr


def _ids(place: Path, run: object) -> list[int]:
    return list(read_answers(read_scores(place / "home" / "runs" / "m" / str(run))).column("id").to_pylist())


def test_a_table_is_scored_into_a_table_version_by_version(place: Path) -> None:
    write_deltalake(place / "in", _rows().slice(0, 2_000))
    given = {"source": f"{{delta: {place}/in}}", "sink": f"{{delta: {place}/out}}"}
    first, _ = _score(place, **given)
    assert first["scored"] == 2_000
    again, said = _score(place, **given)
    assert again == first
    assert "is finished, nothing to do" in said
    write_deltalake(place / "in", _rows().slice(2_000), mode="append")
    second, said = _score(place, **given)
    assert "a new run, for the input changed" in said
    assert second["scored"] == ROWS
    assert sorted(_ids(place, second["run"])) == list(range(ROWS))
    assert _ids(place, first["run"]) == list(range(2_000))
    assert DeltaTable(place / "out").version() == 1
    assert DeltaTable(place / "out").count() == 5_000


def test_rows_in_a_store_are_scored_into_the_store(place: Path) -> None:
    store = from_url("s3://rows", client_options={"allow_http": True})
    for year in (2012, 2013):
        pq.write_table(_rows().slice((year - 2012) * 1_500, 1_500), place / "x.parquet")
        obstore.put(store, f"in/year={year}/x.parquet", (place / "x.parquet").read_bytes())
    made, _ = _score(place, source="{parquet: 's3://rows/in/'}", sink="{parquet: 's3://rows/out'}")
    assert made["scored"] == ROWS
    assert made["source"] == {"parquet": f"s3://rows/out/{made['run']}/_manifest.json"}
    assert _ids(place, made["run"]) == list(range(ROWS))
    _, said = _score(place, source="{parquet: 's3://rows/in/'}", sink="{parquet: 's3://rows/out'}")
    assert "is finished, nothing to do" in said
