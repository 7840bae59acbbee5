"""A sweep comes to the same table and the same bytes, however many run side by side and whoever is killed. With Ray.

`RAYMLOPS_KILLS` is the number of random kills, 6 unless it is set.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymlops import cluster
from raymlops.cluster.processes import marked

KILLS = int(os.environ.get("RAYMLOPS_KILLS", "6"))
pytestmark = [pytest.mark.ray, pytest.mark.timeout(300 + 15 * KILLS)]
SPEC = """
name: swept
data: {source: {parquet: rows.parquet}, label: y, key: [id]}
train:
  search: {tpe: {startup: 4}}
  generation: 4
  trainers:
    xgboost: {trials: 8, options: {rounds: 20}, space: {max_depth: {integers: [2, 6]}, learning_rate: {log: [0.02, 1]}}}
    pytorch: {trials: 4, options: {epochs: 2}, space: {hidden: {choice: [[8], [16, 8]]}}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweeps:
    """A folder with rows and a spec; ``home`` is where the sweep lies."""

    folder: Path
    home: Path

    def start(self, spec: str = "spec") -> "subprocess.Popen[str]":
        """Begin the sweep in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "raymlops", "train", f"{spec}.yaml", "--json"],
            cwd=self.folder,
            env={**os.environ, "RAYMLOPS_HOME": str(self.home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, spec: str = "spec") -> dict[str, Any]:
        """Run the sweep to its end and return what it came to."""
        driver = self.start(spec)
        said, why = driver.communicate(timeout=200)
        assert driver.returncode == 0, why
        made: dict[str, Any] = json.loads(said)
        return made

    def forget(self) -> None:
        """Remove what the sweep has made."""
        shutil.rmtree(self.home / "sweeps", ignore_errors=True)


def table(made: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the sweep's table without what a clock said."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in made["trials"]]


def champion(made: Mapping[str, Any]) -> str:
    """Return the digest of the champion's bytes."""
    return Path(made["outputs"][1]).name


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rmt-") as name:
        random = np.random.default_rng(0)
        x = random.normal(size=(6_000, 5)).astype(np.float32)
        y = (x[:, 0] * x[:, 1] + random.normal(size=len(x)) > 0).astype(np.int64)
        columns = {f"f{j}": x[:, j] for j in range(5)}
        pq.write_table(pa.table({**columns, "y": y, "id": np.arange(len(x))}), f"{name}/rows.parquet")
        Path(name, "spec.yaml").write_text(SPEC)
        Path(name, "trees.yaml").write_text(re.sub("    pytorch: .*\n", "", SPEC))
        yield Path(name)


@pytest.fixture(scope="module")
def unbroken(folder: Path) -> dict[str, Any]:
    """What the sweep comes to on four CPUs that nobody disturbs."""
    return _on(folder, "four", cpus=4)


def _on(folder: Path, name: str, *, cpus: int) -> dict[str, Any]:
    sweeps = Sweeps(folder=folder, home=folder / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYMLOPS_HOME", str(sweeps.home))
        running = cluster.start(cpus=cpus)
        try:
            return sweeps.run()
        finally:
            cluster.stop(running)


def test_one_worker_and_four_come_to_the_same_table_and_the_same_bytes(folder: Path, unbroken: dict[str, Any]) -> None:
    alone = _on(folder, "one", cpus=1)
    assert table(alone) == table(unbroken)
    assert champion(alone) == champion(unbroken)
    assert alone["repeats"] == unbroken["repeats"] == "bit-equal"
    assert [row["index"] for row in unbroken["trials"]] == list(range(12))


def test_a_sweep_killed_at_random_moments_comes_to_the_table_of_an_unbroken_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeps = Sweeps(folder=folder, home=folder / "killed")
    monkeypatch.setenv("RAYMLOPS_HOME", str(sweeps.home))
    draw, kills = random.Random(5), {"driver": 0, "worker": 0, "head": 0}
    running = cluster.start(cpus=2)
    try:
        begun = time.monotonic()
        unbroken = sweeps.run("trees")
        whole_s = time.monotonic() - begun
        sweeps.forget()
        while sum(kills.values()) < KILLS:
            driver = sweeps.start("trees")
            try:
                driver.wait(timeout=draw.uniform(0.2, 1.1) * whole_s)
            except subprocess.TimeoutExpired:
                running = _kill(draw, driver, running, kills)
            said, why = driver.communicate(timeout=200)
            if driver.returncode == 0:
                assert said.startswith("{"), (said, why)
                assert table(json.loads(said)) == table(unbroken)
                sweeps.forget()
            else:
                assert driver.returncode in (-signal.SIGKILL, 1), why
                assert driver.returncode < 0 or "Traceback" not in why
        made = sweeps.run("trees")
    finally:
        cluster.stop(running)
    assert table(made) == table(unbroken)
    assert champion(made) == champion(unbroken)
    assert kills["driver"], "none of the moments found a driver at work"


def _kill(
    draw: random.Random, driver: "subprocess.Popen[str]", running: cluster.LocalCluster, kills: dict[str, int]
) -> cluster.LocalCluster:
    """Kill the driver, a worker or the whole cluster, of which a new one is returned then."""
    victim = draw.choice(["driver", "driver", "worker", "worker", "head"])
    workers = [one for one in marked(running.marker) if "_Worker" in " ".join(_words(one))]
    if victim == "worker" and workers:
        draw.choice(workers).kill()
    elif victim == "head":
        cluster.stop(running)
        running = cluster.start(cpus=2)
    else:
        victim = "driver"
        driver.kill()
    kills[victim] += 1
    return running


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_halving_without_barriers_says_that_it_does_not_repeat(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    halved = "halving: {factor: 2, rungs: 2, asynchronous: true}"
    (folder / "fast.yaml").write_text(SPEC.replace("generation: 4", f"generation: 4\n  {halved}"))
    sweeps = Sweeps(folder=folder, home=folder / "fast")
    driver = sweeps.start("fast")
    said, why = driver.communicate(timeout=200)
    assert driver.returncode == 0, why
    assert "the sweep is asynchronous and does not repeat" in why
    rows = json.loads(said)["trials"]
    assert [row["index"] for row in rows] == list(range(12))
    assert {row["share"] for row in rows} == {0.5, 1.0}
