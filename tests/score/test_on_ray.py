"""A run that is killed goes on where it stopped: every row once, and nothing seen before the commit. With Ray."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from raymlops import cluster, registry
from raymlops.codec import dumps
from raymlops.contract import infer
from raymlops.data import read_answers, read_scores
from raymlops.score.ledger import done
from raymlops.train.trainers.xgboost import Xgboost
from raymlops.values import Examples

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]
FILES, ROWS = 60, 40_000


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A home with a model, its spec, its rows and a cluster that stays up."""
    with tempfile.TemporaryDirectory(prefix="rml-") as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        patch.setenv("RAYMLOPS_HOME", str(folder / "home"))
        patch.setenv("RAY_AUTH_MODE", "token")
        _prepare(folder)
        running = cluster.start(cpus=2)
        try:
            yield folder
        finally:
            cluster.stop(running)


def _prepare(folder: Path) -> None:
    random_rows = np.random.default_rng(0)
    (folder / "rows").mkdir()
    for index in range(FILES):
        x = random_rows.normal(size=ROWS)
        table = pa.table({"id": np.arange(ROWS) + index * ROWS, "x": x, "y": (x > 0).astype(int)})
        pq.write_table(table, folder / "rows" / f"{index:02}.parquet")
    x = table.column("x").to_numpy().astype(np.float32)[:, None]
    examples = Examples(x=x, y=table.column("y").to_numpy().astype(np.float64))
    fitted = Xgboost(rounds=3).fit(examples, None, categories=(0,), task="binary", classes=2, seed=0, threads=1)
    model = {"format": fitted.format, "task": "binary", "classes": 2, "features": 1, "categories": [0], "params": {}}
    contract = infer(table, features=["x"], label="y", key=["id"])
    files = {**fitted.files, "model.json": dumps(model), "contract.json": dumps(contract.to_json())}
    digest, path = registry.store_folder(files)
    registry.promote(str(registry.register("m", digest=digest, path=path, run_id=None, tags={})))
    (folder / "spec.yaml").write_text(f"""
name: m
data: {{source: {{parquet: {folder}/rows}}, label: y, key: [id]}}
train: {{trainers: {{xgboost: {{}}}}}}
score: {{source: {{parquet: {folder}/rows}}, sink: {{parquet: {{path: {folder}/out}}}}}}
""")


def _score(place: Path, spec: str = "spec.yaml") -> subprocess.Popen[str]:
    # Every test of this folder has a home of its own; here one is shared.
    environ = {**os.environ, "RAYMLOPS_HOME": str(place / "home"), "RAY_AUTH_MODE": "token"}
    return subprocess.Popen(
        [sys.executable, "-m", "raymlops", "score", spec], cwd=place, env=environ, text=True, stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip


def _workers(place: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        # Not Ray's own agents: without them a node ends itself.
        if line.startswith(("ray::_warm", "ray::MapBatches")) and "RAYMLOPS_HOME" in (environ := _environ(process)):
            found += [process] if environ["RAYMLOPS_HOME"] == str(place / "home") else []
    return found


def _environ(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


def _seen(place: Path) -> int:
    """Return how many rows a reader of the sink's folder sees."""
    if not (place / "out").exists():
        return 0
    return int(pa.dataset.dataset(place / "out", format="parquet").count_rows())


def test_a_run_whose_driver_and_workers_are_killed_ends_with_every_row_once(place: Path) -> None:
    draw = random.Random(7)
    kills = 0
    for attempt in range(8):
        driver = _score(place)
        time.sleep(draw.uniform(0.5, 8))
        if driver.poll() is not None:
            break
        if attempt % 3 == 2 and (workers := _workers(place)):
            draw.choice(workers).send_signal(signal.SIGKILL)
            time.sleep(0.5)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        kills += 1
        assert _seen(place) in (0, FILES * ROWS), "no part of a run is seen"
    (record,) = (place / "home" / "runs" / "m").iterdir()
    before = len(done(record))
    last = _score(place)
    _, text = last.communicate(timeout=120)
    assert last.returncode == 0, text
    assert kills >= 2
    assert f"{FILES - before} of {FILES} pieces to do" in text or "is finished" in text
    scores = read_scores(record)
    assert (scores.rows_in, scores.scored, scores.dead, scores.filtered) == (FILES * ROWS, FILES * ROWS, 0, 0)
    assert read_answers(scores).column("id").to_pylist() == list(range(FILES * ROWS))
    assert _seen(place) == FILES * ROWS


def test_a_finished_run_is_not_done_again(place: Path) -> None:
    (record,) = (place / "home" / "runs" / "m").glob("*/manifest.json")
    before = sorted((path.name, path.stat().st_mtime_ns) for path in record.parent.iterdir())
    again = _score(place)
    _, text = again.communicate(timeout=120)
    assert "is finished, nothing to do" in text
    assert sorted((path.name, path.stat().st_mtime_ns) for path in record.parent.iterdir()) == before


def test_two_drivers_on_one_run_one_commits_and_the_other_says_why_not(place: Path) -> None:
    text = (place / "spec.yaml").read_text()
    (place / "both.yaml").write_text(text.replace(f"{place}/out", f"{place}/both"))
    drivers = [_score(place, "both.yaml") for _ in range(2)]
    ends = [(driver.communicate(timeout=200)[1], driver.returncode) for driver in drivers]
    said = [text for text, code in ends if code == 1]
    assert sorted(code for _, code in ends) in ([0, 1], [0, 0]), ends
    assert all("taken over by attempt" in text or "committed by another attempt" in text for text in said), said
    if not said:
        assert any("is finished, nothing to do" in text for text, _ in ends)
    assert int(pa.dataset.dataset(place / "both", format="parquet").count_rows()) == FILES * ROWS


def test_a_stream_is_scored_on_from_where_the_last_run_ended(place: Path) -> None:
    text, log = (place / "spec.yaml").read_text(), place / "app.log"
    old, sink = f"source: {{parquet: {place}/rows}}, sink", f"{place}/out"
    new = f"source: {{log: {{path: {log}, max_bytes: 900}}}}, sink"
    (place / "stream.yaml").write_text(text.replace(old, new).replace(sink, f"{place}/streamed"))
    for first, said in ((0, "rows in"), (100, "rows in"), (200, "nothing new")):
        if said != "nothing new":
            with log.open("a") as file:
                file.writelines(f'{{"id": {number}, "x": 0.5}}\n' for number in range(first, first + 100))
        scored = _score(place, "stream.yaml")
        _, told = scored.communicate(timeout=120)
        assert scored.returncode == 0, told
        assert said in told
    assert len([*(place / "streamed").glob("*/_manifest.json")]) >= 4
    ids = pa.dataset.dataset(place / "streamed", format="parquet").to_table().column("id").to_pylist()
    assert sorted(ids) == list(range(200))
