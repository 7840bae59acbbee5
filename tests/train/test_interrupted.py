"""A sweep that is interrupted while a fit runs: Ray is left only when no thread waits for it any more.

A thread that still does when the driver disconnects ends the process with SIGSEGV, not each time; so threads are told.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymlops import cluster

pytestmark = [pytest.mark.ray, pytest.mark.timeout(200)]
SPEC = """
name: long
data: {{source: {{parquet: rows.parquet}}, label: y, key: [id]}}
train:
  workers: {workers}
  trainers:
    pytorch: {{trials: 2, options: {{module: "slow:Slow"}}}}
"""
NETWORK = """
import time, pathlib, torch
class Slow(torch.nn.Module):
    def __init__(self, features, categories, outputs):
        super().__init__()
        self.layer = torch.nn.Linear(features, outputs)
    def forward(self, x):
        if self.training:
            pathlib.Path({begun!r}).touch()
            time.sleep(600)
        return self.layer(x)
"""
DRIVER = """
import sys, threading
import ray
from raymlops.cli import main
leave = ray.shutdown
def shutdown():
    print("threads:", *(thread.name for thread in threading.enumerate()), file=sys.stderr)
    leave()
ray.shutdown = shutdown
sys.argv = ["raymlops", "train", "spec.yaml"]
main()
"""


@pytest.mark.parametrize("workers", [1, 2], ids=["a worker each", "spread"])
def test_nothing_waits_for_ray_when_it_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    monkeypatch.setenv("RAYMLOPS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    x, y = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32), np.arange(100) % 2
    rows = pa.table({"f0": x[:, 0], "f1": x[:, 1], "y": y, "id": np.arange(100)})
    pq.write_table(rows, tmp_path / "rows.parquet")
    (tmp_path / "spec.yaml").write_text(SPEC.format(workers=workers))
    (tmp_path / "slow.py").write_text(NETWORK.format(begun=str(tmp_path / "begun")))
    made = cluster.start(cpus=2)
    try:
        driver = subprocess.Popen([sys.executable, "-c", DRIVER], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        until = time.monotonic() + 100
        while not (tmp_path / "begun").exists() and driver.poll() is None and time.monotonic() < until:
            time.sleep(0.1)
        driver.send_signal(signal.SIGINT)
        _, said = driver.communicate(timeout=60)
    finally:
        cluster.stop(made)
    assert (tmp_path / "begun").exists(), said
    assert driver.returncode == 130, said
    assert "threads: MainThread" in said
    assert "the sweep's workers" not in said
