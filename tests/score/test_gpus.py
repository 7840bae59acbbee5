"""An engine that needs a GPU gets one of its own, on any node: two nodes with two GPUs each, as Ray counts them.

The engine is a kind of another package, found by its entry point, which notes where it is loaded and what it sees.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow.dataset
import pytest

from raymlops import registry
from raymlops.engine import write_choice
from tests.score.faults.place import DEAD, Place, prepare

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
FILES = 24
PACKAGE = {
    "counted.py": """
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ray


class Predictor:
    def predict(self, x):
        time.sleep(0.05)
        return np.zeros(len(x), np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    gpu: float = 1.0

    def gpus(self):
        return self.gpu

    def compile(self, version, artefact, *, sample):
        pass

    def load(self, version, artefact, *, threads):
        node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else "none"
        note = f"{node} {os.environ.get('CUDA_VISIBLE_DEVICES')}"
        Path(os.environ["COUNTED_NOTES"], str(os.getpid())).write_text(note)
        return Predictor()
""",
    "counted-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: counted\nVersion: 1.0\n",
    "counted-1.0.dist-info/entry_points.txt": "[raymlops.engines]\ncounted = counted:Counted\n",
}


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="rml-") as name:
        folder = Path(name)
        for file, text in PACKAGE.items():
            path = folder / "package" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (folder / "notes").mkdir()
        monkeypatch.setenv("RAYMLOPS_HOME", f"{name}/home")
        monkeypatch.setenv("PYTHONPATH", f"{folder / 'package'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        monkeypatch.setenv("COUNTED_NOTES", str(folder / "notes"))
        made = prepare(folder, files=FILES, rows=100)
        for key, value in made.environment.items():
            monkeypatch.setenv(key, value)
        monkeypatch.syspath_prepend(str(folder / "package"))
        yield made


@pytest.mark.parametrize(("share", "devices"), [(1.0, 4), (0.5, 2)], ids=["whole", "half"])
def test_each_worker_holds_its_share_of_one_gpu_on_every_node(place: Place, share: float, devices: int) -> None:
    write_choice(registry.resolve("m@1"), {"counted": {"gpu": share}}, "a test")
    with tempfile.TemporaryDirectory(prefix="rml-") as folder:
        environ = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
        nodes = subprocess.Popen(
            [sys.executable, "-m", "tests.score.faults.nodes", folder, "2"], env=environ, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        try:
            assert nodes.stdout
            made = json.loads(nodes.stdout.readline())
            inside = {"RAY_ADDRESS": made["address"], "RAY_JOB_CONFIG_JSON_ENV_VAR": "{}", "RAY_AUTH_MODE": "disabled"}
            driver = place.score("out", **inside)
            _, said = driver.communicate(timeout=150)
        finally:
            assert nodes.stdin
            nodes.stdin.close()
            nodes.wait(timeout=60)
    assert driver.returncode == 0, said
    rows = pyarrow.dataset.dataset(place.folder / "out", format="parquet").to_table(columns=["id"])
    assert len(set(rows.column("id").to_pylist())) == rows.num_rows == place.rows - DEAD
    seen = [path.read_text().split() for path in (place.folder / "notes").iterdir()]
    assert len(seen) == 4  # a CPU each
    assert {device for _, device in seen} <= {"0", "1"}
    assert len({(node, device) for node, device in seen}) == devices
    assert len({node for node, _ in seen}) == 2


def test_a_cluster_without_a_gpu_is_told_so_at_once(place: Place) -> None:
    write_choice(registry.resolve("m@1"), {"counted": {"gpu": 1.0}}, "a test")
    code = place.score("out")
    _, said = code.communicate(timeout=100)
    assert code.returncode == 3
    assert "a worker needs 1 GPU and 1 CPU, the cluster has" in said
