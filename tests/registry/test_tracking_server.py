"""A sweep is recorded on a real MLflow server, on SQLite and on PostgreSQL, also when the server is away meanwhile."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from raymlops import registry
from raymlops.errors import Unavailable
from raymlops.registry.mlflow_client import client

Start = Callable[[], "subprocess.Popen[bytes]"]


class Server:
    """An MLflow server that can be stopped and started again on its port."""

    def __init__(self, store: str, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._store, self._folder = store, folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it answers."""
        words = ["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        words += ["--backend-store-uri", self._store, "--artifacts-destination", str(self._folder)]
        environ = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        environ.pop("MLFLOW_TRACKING_URI", None)
        out = (self._folder / "server.log").open("ab")
        self._process = subprocess.Popen(
            [sys.executable, *words], stdout=out, stderr=out, env=environ, start_new_session=True
        )
        deadline = time.monotonic() + 90
        while True:
            with suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/health", timeout=2, trust_env=False).status_code == 200:
                    return
            assert self._process.poll() is None, (self._folder / "server.log").read_text()[-2000:]
            assert time.monotonic() < deadline, (self._folder / "server.log").read_text()[-2000:]
            time.sleep(0.1)

    def stop(self) -> None:
        """End it and all that it started."""
        if self._process is None or self._process.poll() is not None:
            return
        family = [*psutil.Process(self._process.pid).children(recursive=True), psutil.Process(self._process.pid)]
        for process in family:
            with suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        self._process.wait(timeout=30)


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    if request.param == "postgresql":
        store = str(request.getfixturevalue("postgres")).replace("postgresql://", "postgresql+psycopg://")
    made = Server(store, tmp_path)
    monkeypatch.setenv("RAYMLOPS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made.start()
    yield made
    made.stop()


def run(key: int) -> registry.Run:
    return registry.Run(key=str(key), name=f"xgboost {key}", params={"depth": key}, metrics={"auc": key / 100})


def recorded(name: str) -> list[tuple[str, float]]:
    """Return the key and the metric of every trial that MLflow holds."""
    experiment = client().get_experiment_by_name(name)
    runs = client().search_runs([experiment.experiment_id])
    trials = [one for one in runs if one.data.tags["raymlops.trial"] != "parent"]
    assert {one.info.status for one in trials} == {"FINISHED"}
    return sorted((one.data.tags["raymlops.trial"], one.data.metrics["auc"]) for one in trials)


def wait_for(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_server_that_is_away_for_a_while_gets_every_trial_once(server: Server) -> None:
    tracker = registry.Tracker(name="away", sweep="abc", tags={})
    for key in range(3):
        tracker.record(run(key))
    wait_for(lambda: _count("away") == 3)
    server.stop()
    for key in range(3, 6):
        tracker.record(run(key))  # nobody waits for it
    server.start()
    assert sorted(tracker.settle(limit_s=60)) == [str(key) for key in range(6)]
    assert recorded("away") == [(str(key), key / 100) for key in range(6)]


def _count(name: str) -> int:
    experiment = client().get_experiment_by_name(name)
    runs = client().search_runs([experiment.experiment_id]) if experiment else []
    return sum(run.info.status == "FINISHED" for run in runs)


def test_a_server_that_stays_away_is_said_and_the_next_run_of_the_sweep_tells_it_all(server: Server) -> None:
    server.stop()
    tracker = registry.Tracker(name="gone", sweep="abc", tags={})
    for key in range(2):
        tracker.record(run(key))
    with pytest.raises(Unavailable, match=r"2 of 2 runs could not be recorded.*run the same command again"):
        tracker.settle(limit_s=3)
    server.start()
    again = registry.Tracker(name="gone", sweep="abc", tags={})
    for key in range(2):
        again.record(run(key))
    again.settle()
    assert recorded("gone") == [("0", 0.0), ("1", 0.01)]
