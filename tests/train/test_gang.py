"""A sweep whose fits are spread over workers: the same whoever is killed, and made again from its lineage."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymlops import cluster
from raymlops.cluster.processes import marked
from tests.nodes import two_nodes

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
SPEC = """
name: spread
data: {source: {parquet: rows.parquet}, label: y, key: [id]}
train:
  workers: 2
  class_weight: balanced
  trainers:
    xgboost: {trials: 3, options: {rounds: 40}, space: {max_depth: {integers: [2, 6]}}}
    pytorch:
      trials: 2
      options: {epochs: 4, hidden: [8], batch_size: 128}
      space: {learning_rate: {log: [0.005, 0.02]}}
"""
DIVERGING = """
name: diverging
data: {source: {parquet: rows.parquet}, label: y, key: [id]}
train:
  workers: 2
  repeat: false
  trainers:
    pytorch: {options: {epochs: 2, hidden: [8], batch_size: 128, learning_rate: 1.0e+30}}
    xgboost: {options: {rounds: 5}}
"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Rows whose first half has one label only, so that neither worker could learn anything alone."""
    with tempfile.TemporaryDirectory(prefix="rmg-") as name:
        random = np.random.default_rng(0)
        x = random.normal(size=(4_000, 4)).astype(np.float32)
        y = (x[:, 0] + x[:, 1] + 0.5 * random.normal(size=len(x)) > 0).astype(np.int64)
        order = np.argsort(y, kind="stable")
        columns = {f"f{j}": x[order, j] for j in range(4)}
        pq.write_table(pa.table({**columns, "y": y[order], "id": np.arange(len(x))}), f"{name}/rows.parquet")
        Path(name, "spec.yaml").write_text(SPEC)
        yield Path(name)


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[cluster.LocalCluster]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYMLOPS_HOME", str(folder / "home"))
        made = cluster.start(cpus=2)
        try:
            yield made
        finally:
            cluster.stop(made)


def start(
    folder: Path, *words: str, spec: str = "spec.yaml", inside: Mapping[str, str] | None = None
) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "raymlops", *(words or ("train", spec)), "--json"]
    environ = {**os.environ, **(inside or {})}
    return subprocess.Popen(command, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(driver: "subprocess.Popen[str]", *, rc: int = 0) -> tuple[Any, str]:
    said, why = driver.communicate(timeout=200)
    assert driver.returncode == rc, why
    return json.loads(said) if said else None, why


def table(made: Any) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in made["trials"]]


@pytest.fixture(scope="module")
def unbroken(folder: Path, running: cluster.LocalCluster) -> Any:
    return ended(start(folder))[0]


def forget(folder: Path) -> None:
    for sweep in (folder / "home" / "sweeps").iterdir():
        sweep.rename(folder / f"{sweep.name}.{time.monotonic_ns()}")


def test_both_trainers_learn_what_no_worker_knows_alone_and_repeat(unbroken: Any) -> None:
    assert [row["trainer"] for row in unbroken["trials"]] == ["xgboost", "pytorch", "xgboost", "pytorch", "xgboost"]
    found = [row["metrics"]["auc"] for row in unbroken["trials"]]
    assert min(found) > 0.85, found
    assert unbroken["repeats"] == "bit-equal"


def test_each_version_is_made_again_bit_for_bit(folder: Path, running: cluster.LocalCluster, unbroken: Any) -> None:
    assert len(unbroken["versions"]) == 2
    for version in unbroken["versions"]:
        made, _ = ended(start(folder, "models", "rebuild", version))
        assert made["verdict"] == "bit-equal"


@pytest.mark.parametrize("victims", [1, 2])
def test_the_table_is_the_same_when_workers_are_killed(
    folder: Path, running: cluster.LocalCluster, unbroken: Any, victims: int
) -> None:
    forget(folder)
    driver = start(folder)
    killed: list[int] = []
    until = time.monotonic() + 100
    while len(killed) < victims and time.monotonic() < until and driver.poll() is None:
        begun = any((folder / "home" / "sweeps").glob("*/trials/00000/result.json"))
        workers = [one.pid for one in marked(running.marker) if _is_worker(one) and one.pid not in killed]
        for pid in workers[: victims - len(killed)] if begun else []:
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
        time.sleep(0.02)
    made, _ = ended(driver)
    assert len(killed) == victims, "no worker was found at work"
    assert table(made) == table(unbroken)
    assert Path(made["outputs"][1]).name == Path(unbroken["outputs"][1]).name


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "RayTrainWorker" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def test_the_table_is_the_same_when_the_driver_is_killed(
    folder: Path, running: cluster.LocalCluster, unbroken: Any
) -> None:
    forget(folder)
    for ended_before in (0, 2):
        driver = start(folder)
        until = time.monotonic() + 100
        while not list((folder / "home" / "sweeps").glob(f"*/trials/{ended_before:05}/result.json")):
            assert time.monotonic() < until
            assert driver.poll() is None
            time.sleep(0.02)
        driver.kill()
        driver.communicate(timeout=20)
    made, said = ended(start(folder))
    assert re.search(r"train: [345] of 5 trials ended in an earlier run of the sweep\n", said)
    assert table(made) == table(unbroken)
    assert Path(made["outputs"][1]).name == Path(unbroken["outputs"][1]).name


def test_workers_on_two_nodes_come_to_the_same_table(folder: Path, unbroken: Any) -> None:
    forget(folder)
    with two_nodes() as nodes:
        made, _ = ended(start(folder, inside=nodes.inside))
    assert table(made) == table(unbroken)
    assert Path(made["outputs"][1]).name == Path(unbroken["outputs"][1]).name


def test_a_fit_that_raises_is_told_by_its_own_cause_and_the_others_go_on(
    folder: Path, running: cluster.LocalCluster
) -> None:
    (folder / "diverging.yaml").write_text(DIVERGING)
    made, _ = ended(start(folder, spec="diverging.yaml"))
    told = {row["trainer"]: row["cause"] for row in made["trials"]}
    assert "the loss is nan after epoch 1: the fit diverged; lower learning_rate" in told["pytorch"]
    assert not told["xgboost"]


def test_more_workers_than_this_machine_has_are_refused(folder: Path, running: cluster.LocalCluster) -> None:
    (folder / "many.yaml").write_text(SPEC.replace("workers: 2", "workers: 8").replace("name: spread", "name: many"))
    _, why = ended(start(folder, spec="many.yaml"), rc=2)
    assert "train.workers: 8 workers with 1 CPUs each asked, this machine has 2 CPUs" in why
