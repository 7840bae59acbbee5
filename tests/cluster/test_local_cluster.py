"""The embedded cluster on this machine: shut to others, found again, and gone without a trace."""

import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from raymlops.cluster import LocalCluster, attached, environment, findings, memory_bytes, start, stop
from raymlops.cluster.ports import free_block, is_free
from raymlops.cluster.processes import end, exposed, is_running, listening, marked
from raymlops.errors import Conflict, Unavailable

DRIVER = """
import psutil, ray
from raymlops.cluster import attached
from raymlops.cluster.on_ray import connect
from raymlops.cluster.processes import exposed, listening
from raymlops.cluster.ports import is_loopback
cluster = attached()
with connect(cluster) as dashboard:
    @ray.remote
    class Worker:
        def name(self): return ray.get_runtime_context().namespace
    worker = Worker.remote()
    print(ray.get(worker.name.remote()), dashboard == cluster.dashboard)
    mine = [ip for ip, _ in listening(psutil.Process())]
    print(exposed(cluster.marker), bool(mine) and all(map(is_loopback, mine)))
"""
OWNER = """
import sys, time
from raymlops.cluster import attached, start
cluster = start(cpus=1, tied=True)
print(cluster.marker, cluster.pid, cluster.folder, attached(), flush=True)
time.sleep(600)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAYMLOPS_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYMLOPS_HOME", folder)
        made = start(cpus=1)
        try:
            yield made
        finally:
            assert stop()
        assert marked(made.marker) == []
        assert not is_running(made.pid, made.created)
        assert not made.folder.exists()
        assert attached() is None
        assert not stop()


def answer(cluster: LocalCluster, method: str, path: str, *, token: str | None, body: object = None) -> int:
    url = urlsplit(cluster.dashboard)
    connection = http.client.HTTPConnection(str(url.hostname), url.port, timeout=60)
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    connection.request(method, path, body=json.dumps(body) if body else None, headers=headers)
    try:
        return connection.getresponse().status
    finally:
        connection.close()


def wait_until_gone(marker: str, *, within_s: float) -> list[psutil.Process]:
    deadline = time.monotonic() + within_s
    while (left := marked(marker)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


@pytest.mark.ray
def test_nothing_of_a_cluster_with_a_driver_and_a_worker_listens_outside_loopback(cluster: LocalCluster) -> None:
    words = [sys.executable, "-c", DRIVER]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=100)

    assert done.stdout.split("\n")[:2] == ["raymlops True", "[] True"], done.stderr
    assert sum(len(listening(process)) for process in marked(cluster.marker)) >= 8
    assert exposed(cluster.marker) == []


@pytest.mark.ray
def test_a_cluster_answers_only_who_knows_its_token_and_only_its_owner_can_read_it(cluster: LocalCluster) -> None:
    token = cluster.token.read_text()

    assert [answer(cluster, "GET", "/api/jobs/", token=given) for given in (None, "x" * 64, token)] == [401, 403, 200]
    assert stat.S_IMODE(cluster.token.stat().st_mode) == 0o600
    assert len(token) == 64


@pytest.mark.ray
def test_a_running_cluster_is_found_again_and_not_started_twice(cluster: LocalCluster) -> None:
    assert attached() == cluster
    assert start() == cluster
    with pytest.raises(Conflict, match=f"is up at {cluster.dashboard}"):
        start(dashboard_port=int(urlsplit(cluster.dashboard).port or 0) + 1)
    assert 100 * 2**20 < memory_bytes(cluster.marker) < 4 * 2**30
    assert environment(cluster)["RAY_AUTH_TOKEN_PATH"] == str(cluster.token)
    assert any(finding.ok and cluster.dashboard in finding.what for finding in findings())


@pytest.mark.ray
def test_what_a_killed_head_leaves_behind_is_cleared_away_even_what_left_its_session(home: Path) -> None:
    made = start(cpus=1)
    try:
        body = {"entrypoint": "setsid sleep 600 & sleep 600", "submission_id": "a"}
        assert answer(made, "POST", "/api/jobs/", token=made.token.read_text(), body=body) == 200
        deadline = time.monotonic() + 60
        while not (sleepers := [p for p in marked(made.marker) if p.cmdline() == ["sleep", "600"]][1:]):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.kill(made.pid, signal.SIGKILL)
        psutil.wait_procs([psutil.Process(made.pid)], timeout=5)

        assert attached() is None
        assert marked(made.marker) == []
        assert not any(sleeper.is_running() for sleeper in sleepers)
        assert not made.folder.exists()
        assert not (home / "cluster.json").exists()
    finally:
        end(made.marker, wait_s=3)


@pytest.mark.ray
def test_a_tied_cluster_ends_with_its_owner_and_is_not_found_by_others(home: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    marker, pid, folder, found = owner.stdout.readline().split()
    try:
        assert found == "None"
        assert psutil.pid_exists(int(pid))
        owner.kill()
        owner.wait()

        assert wait_until_gone(marker, within_s=30) == []
        deadline = time.monotonic() + 5
        while Path(folder).exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not Path(folder).exists()
    finally:
        owner.kill()
        end(marker, wait_s=3)


def test_a_port_that_is_taken_is_named_with_who_holds_it(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(Unavailable, match=rf"port {port} is held by .*\(pid {os.getpid()}\)"):
            start(dashboard_port=port)


def test_a_reused_pid_is_not_taken_for_the_cluster(home: Path) -> None:
    state = {
        "pid": os.getpid(),
        "created": 1.0,
        "marker": "0" * 16,
        "dashboard": "http://127.0.0.1:1",
        "gcs": "127.0.0.1:2",
        "folder": str(home / "gone"),
        "log": str(home / "log"),
        "token": str(home / "token"),
    }
    (home / "cluster.json").write_text(json.dumps(state))

    assert attached() is None
    assert not (home / "cluster.json").exists()


def test_a_state_that_is_not_one_is_said_and_left_for_a_person(home: Path) -> None:
    (home / "cluster.json").write_text("{}")

    with pytest.raises(Unavailable, match=r"cluster\.json: is not a cluster's state"):
        attached()


def test_a_block_of_ports_is_free_and_outside_the_ports_of_outgoing_connections() -> None:
    import random

    block = free_block(3, 5, draw=random.Random(0))

    assert block.range == (block.first + 3, block.first + 7)
    assert all(is_free(port) for port in range(block.first, block.range[1] + 1))
    assert block.range[1] < 32_768


def test_the_doctor_names_an_ambient_address_a_stray_token_and_a_home_that_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("x")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.5:6379")
    monkeypatch.setenv("RAYMLOPS_HOME", str(tmp_path / "file" / "home"))

    wrong = [finding.what for finding in findings() if not finding.ok]

    for part in ("RAY_ADDRESS='10.0.0.5:6379'", "auth_token", "artefacts in"):
        assert any(part in what for what in wrong), part
    assert all(finding.advice for finding in findings() if not finding.ok)
