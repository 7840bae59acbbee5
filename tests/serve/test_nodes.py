"""Replicas on two nodes with two GPUs each, which Ray only counts: each has its own device, and a node may die."""

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from raymlops import registry, serve
from raymlops.codec import dumps
from raymlops.engine import write_choice
from raymlops.spec import Spec, parse
from tests.counted import install
from tests.nodes import Nodes, two_nodes
from tests.serve.load import Load
from tests.serve.test_on_ray import free_port

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


@pytest.fixture
def nodes(maker: Any) -> Iterator[Nodes]:
    with tempfile.TemporaryDirectory(prefix="rmn-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYMLOPS_HOME", f"{folder}/home")
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        install(Path(folder), patch)
        make = maker(Path(folder))
        for name in ("one", "two"):
            made = Path(make(name).wanted.path)
            files = {path.name: path.read_bytes() for path in made.iterdir()}
            digest, path = registry.store_folder({**files, "name.json": dumps(name)})
            registry.register(name, digest=digest, path=path, run_id=None, tags={})
        with two_nodes(gpus=2, dashboard=True) as two:
            yield two


def served(name: str, port: int, **more: Any) -> Spec:
    words = "".join(f", {key}: {value}" for key, value in more.items())
    return parse(
        f"name: {name}\ndata: {{source: {{parquet: rows.parquet}}, label: late}}\n"
        f"train: {{trainers: {{xgboost: {{}}}}}}\nserve: {{port: {port}{words}}}"
    )


def servers(nodes: Nodes) -> dict[int, tuple[int, str]]:
    """Return for each server process the raylet of its node and the devices that it sees."""
    found = {}
    for raylet in nodes.raylets:
        if not psutil.pid_exists(raylet):
            continue
        for process in psutil.Process(raylet).children(recursive=True):
            try:
                if "raymlops.serve.server" in process.cmdline():
                    found[process.pid] = (raylet, process.environ().get("CUDA_VISIBLE_DEVICES", "none"))
            except psutil.Error:
                continue
    return found


def wait_for(reached: Callable[[], bool], *, within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_each_replica_has_a_device_of_its_own_and_a_node_that_dies_is_done_without(nodes: Nodes) -> None:
    write_choice(registry.resolve("one@1"), {"counted": {"gpu": 1.0}}, "a test")
    port = free_port()
    made = serve.run(served("one", port, replicas=4), model="one@1", dashboard=nodes.dashboard)
    assert made["engine"] == "counted"
    wait_for(lambda: len(servers(nodes)) == 4)
    placed = sorted(servers(nodes).values())
    assert placed == sorted((raylet, device) for raylet in nodes.raylets for device in ("0", "1"))
    with Load(f"http://127.0.0.1:{port}/v2/models/one/infer", fresh=True) as load:
        load.wait(200)
        os.kill(nodes.raylets[1], signal.SIGKILL)
        load.wait(200)
        wait_for(lambda: len(servers(nodes)) == 2)
        load.wait(200)
    assert len(load.failed) <= load.callers, load.failed[:3]
    assert load.longest_gap_s() < 2


def test_halves_share_a_device_and_the_models_of_a_replica_hold_what_they_need_together(nodes: Nodes) -> None:
    for name in ("one", "two"):
        write_choice(registry.resolve(f"{name}@1"), {"counted": {"gpu": 0.5}}, "a test")
    port = free_port()
    serve.run(served("one", port, replicas=4), model="one@1", dashboard=nodes.dashboard)
    wait_for(lambda: len(servers(nodes)) == 4)
    placed = list(servers(nodes).values())
    assert {device for _, device in placed} <= {"0", "1"}
    assert len(set(placed)) == 2, "two halves make a device"
    serve.stop("one", dashboard=nodes.dashboard)
    wait_for(lambda: not servers(nodes))
    for name in ("one", "two"):
        serve.run(served(name, port, replicas=2), model=f"{name}@1", dashboard=nodes.dashboard)
    wait_for(lambda: len(set(servers(nodes).values())) == len(servers(nodes)) == 2)
    for name in ("one", "two"):
        with Load(f"http://127.0.0.1:{port}/v2/models/{name}/infer") as load:
            load.wait(50)
        assert load.failed == []
