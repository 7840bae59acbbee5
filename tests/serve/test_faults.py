"""Processes of the endpoint are killed while callers ask, and it is scaled: nobody who asks comes to know of it."""

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from raymlops import cluster, registry, serve
from raymlops.cluster.processes import exposed, marked
from raymlops.codec import dumps
from raymlops.spec import Spec, parse
from tests.serve.load import Load
from tests.serve.test_on_ray import free_port

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
CALLERS = 8


@pytest.fixture(scope="module")
def running(maker: Any) -> Iterator[cluster.LocalCluster]:
    with tempfile.TemporaryDirectory(prefix="rms-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYMLOPS_HOME", folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        wanted = maker(Path(folder))("small", max_rows=5_000).wanted
        registry.register("small", digest=wanted.digest, path=Path(wanted.path), run_id=None, tags={})
        made = cluster.start(cpus=2)
        for name, value in cluster.environment(made).items():
            patch.setenv(name, value)
        try:
            yield made
        finally:
            cluster.stop(made)
        assert marked(made.marker) == []


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


def spec(port: int, replicas: int = 1, most: int | None = None) -> Spec:
    return parse(
        f"name: small\ndata: {{source: {{parquet: rows.parquet}}, label: late}}\n"
        f"train: {{trainers: {{xgboost: {{}}}}}}\nserve: {{port: {port}, replicas: {replicas}"
        + (f", most_replicas: {most}}}" if most else "}")
    )


@pytest.fixture
def url(running: cluster.LocalCluster, port: int) -> str:
    made = serve.run(spec(port), model="small@1", dashboard=running.dashboard)
    settle(running, servers=1)
    return f"{made['url']}/v2/models/small/infer"


def servers(running: cluster.LocalCluster) -> list[psutil.Process]:
    return [process for process in marked(running.marker) if "raymlops.serve.server" in _words(process)]


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def named(running: cluster.LocalCluster, name: str) -> psutil.Process:
    """Return the process that an actor of this class runs in, by the title that Ray gives it."""
    (found,) = [process for process in marked(running.marker) if "".join(_words(process)).startswith(f"ray::{name}")]
    return found


def settle(running: cluster.LocalCluster, *, servers: int, within_s: float = 90) -> None:
    _wait(lambda: len(globals()["servers"](running)) == servers, within_s)


def _wait(until: Callable[[], bool], within_s: float = 90) -> None:
    deadline = time.monotonic() + within_s
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_replica_that_is_killed_leaves_its_server_process_to_answer_until_there_is_another(
    running: cluster.LocalCluster, url: str
) -> None:
    (server,), replica = servers(running), named(running, "ServeReplica")
    with Load(url, CALLERS) as load:
        replica.send_signal(signal.SIGKILL)
        _wait(lambda: len(servers(running)) == 2)
        _wait(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)
        load.wait(200)
    assert load.failed == []
    assert named(running, "ServeReplica").pid != replica.pid


def test_nobody_notices_that_the_controller_is_killed(running: cluster.LocalCluster, url: str) -> None:
    controller = named(running, "ServeController")
    with Load(url, CALLERS) as load:
        controller.send_signal(signal.SIGKILL)
        _wait(lambda: any("ray::ServeController" in "".join(_words(p)) and p.pid != controller.pid
                          for p in marked(running.marker)))  # fmt: skip
        load.wait(100)
    assert load.failed == []


def test_a_replica_that_is_not_needed_any_more_ends_without_dropping_a_request(
    running: cluster.LocalCluster, url: str, port: int
) -> None:
    serve.run(spec(port, replicas=2), model="small@1", dashboard=running.dashboard)
    settle(running, servers=2)
    with Load(url, CALLERS) as load:
        serve.run(spec(port), model="small@1", dashboard=running.dashboard)
        settle(running, servers=1)
        load.wait(100)
    assert load.failed == []


def test_replicas_come_with_the_load(running: cluster.LocalCluster, url: str, port: int) -> None:
    many = {"name": "x", "shape": [5_000, 4], "datatype": "FP64", "data": [1, 0.5, 3, 1] * 5_000}
    serve.run(spec(port, most=2), model="small@1", dashboard=running.dashboard)
    with Load(url, CALLERS, body=dumps({"inputs": [many]})) as load:
        settle(running, servers=2)
        load.wait(20)
    assert load.failed == []


def test_nothing_listens_outside_loopback(running: cluster.LocalCluster, url: str) -> None:
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert exposed(running.marker) == []
