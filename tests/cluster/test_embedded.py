"""A cluster within a process: on loopback, with processes that wait for work, and gone however the process ends."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from raymlops.cluster.ports import is_loopback

pytestmark = [pytest.mark.ray, pytest.mark.timeout(200)]

OWNER = """
import json, os, psutil, ray, sys, time
from raymlops.cluster.on_ray import embedded
from raymlops.cluster.processes import listening

def look():
    return os.getpid(), [name for name in ("xgboost", "pandas", "raymlops.score.on_ray") if name in sys.modules]

with embedded(cpus=2):
    own = psutil.Process()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        waiting = [child.pid for child in own.children(recursive=True) if child.cmdline()[:1] == ["ray::IDLE"]]
        if len(waiting) == 2:
            break
        time.sleep(0.1)
    seen = ray.get([ray.remote(look).remote() for _ in range(2)])
    session = ray._private.worker._global_node.get_session_dir_path()
    told = {
        "children": [child.pid for child in own.children(recursive=True)],
        "addresses": sorted({ip for process in [own, *own.children(recursive=True)] for ip, _ in listening(process)}),
        "waiting": waiting, "seen": seen,
        "folder": os.path.dirname(session),
    }
    print(json.dumps(told), flush=True)
    time.sleep(float(sys.argv[1]))
print("down", flush=True)
"""


@pytest.fixture
def environ() -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory(prefix="rml-") as folder:
        yield {**os.environ, "RAYMLOPS_HOME": folder, "RAY_AUTH_MODE": "token"}


def _started(environ: dict[str, str], *, seconds: float) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    words = [sys.executable, "-c", OWNER, str(seconds)]
    owner = subprocess.Popen(words, env=environ, text=True, stdout=subprocess.PIPE)
    assert owner.stdout is not None
    told: dict[str, Any] = json.loads(owner.stdout.readline())
    return owner, told


def _gone_folder(folder: Path) -> bool:
    deadline = time.monotonic() + 10
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    return not folder.exists()


def _gone(pids: list[int]) -> list[int]:
    """Return which processes still run 10 s later."""
    deadline = time.monotonic() + 10
    while (left := [pid for pid in pids if psutil.pid_exists(pid)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def test_it_lies_on_loopback_its_processes_wait_with_what_scoring_imports_and_it_ends(environ: dict[str, str]) -> None:
    owner, told = _started(environ, seconds=0)
    assert told["addresses"]
    assert [address for address in told["addresses"] if not is_loopback(address)] == []
    assert {pid for pid, _ in told["seen"]} <= {*told["waiting"]}, "work is done by a process that waited for it"
    assert all(len(modules) == 3 for _, modules in told["seen"])
    out, _ = owner.communicate(timeout=60)
    assert (out, owner.returncode) == ("down\n", 0)
    assert _gone(told["children"]) == []
    assert not Path(told["folder"]).exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=["kill", "term", "int"])
def test_nothing_of_it_outlives_its_process(environ: dict[str, str], number: signal.Signals) -> None:
    owner, told = _started(environ, seconds=600)
    owner.send_signal(number)
    owner.wait(timeout=60)
    assert _gone(told["children"]) == []
    assert _gone_folder(Path(told["folder"]))
