"""The endpoint on a small real cluster: the way that a user takes, from the registry to an answer."""

import asyncio
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pyarrow as pa
import pytest

from raymlops import registry, serve
from raymlops.client import AsyncClient, Client, Prediction
from raymlops.codec import write_aside
from raymlops.errors import NotFound, StageFailed, Unavailable
from raymlops.serve.dashboard import applications
from raymlops.spec import Spec, parse

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]
ROWS = [{"colour": "blue", "weight": 0.5, "count": 3, "flag": True}, {"count": 40, "flag": False}]


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rms-") as folder, pytest.MonkeyPatch.context() as patch:
        home = Path(folder)
        (home / "token").write_text(secrets.token_hex(16))
        patch.setenv("RAYMLOPS_HOME", folder)
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "token"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield home


@pytest.fixture(scope="module")
def dashboard(home: Path) -> Iterator[str]:
    """Start a head of its own on free loopback ports; end it and all that it started by their ids."""
    marker = secrets.token_hex(8)
    environ = os.environ | {
        "RAYMLOPS_TEST": marker,
        "SPT_NOENV": "1",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    }
    port = free_port()
    with (home / "head.log").open("wb") as log:
        head = subprocess.Popen(head_command(port, home), env=environ, stdout=log, stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: answers(url, home), head, home / "head.log")
        yield url
    finally:
        head.send_signal(signal.SIGTERM)
        psutil.wait_procs([psutil.Process(head.pid)], timeout=15)
        head.poll()
        for process in left_over(marker):
            process.kill()
        psutil.wait_procs(left_over(marker), timeout=5)
        assert left_over(marker) == []


def head_command(dashboard_port: int, home: Path) -> list[str]:
    options: tuple[str, ...] = (
        "port",
        "dashboard-agent-listen-port",
        "dashboard-agent-grpc-port",
        "metrics-export-port",
    )
    options += ("ray-client-server-port", "runtime-env-agent-port", "node-manager-port", "object-manager-port")
    words = [f"--{option}={free_port()}" for option in options]
    words += [f"--dashboard-port={dashboard_port}", "--dashboard-host=127.0.0.1", "--node-ip-address=127.0.0.1"]
    words += [f"--temp-dir={home / 'r'}", "--num-cpus=2", "--object-store-memory=100000000", "--block"]
    return [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--disable-usage-stats", *words]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str, home: Path) -> bool:
    try:
        headers = {"Authorization": f"Bearer {(home / 'token').read_text()}"}
        return httpx.get(f"{url}/api/version", headers=headers, timeout=2, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def wait_for(condition: Callable[[], bool], head: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert head.poll() is None, log.read_text()[-2000:]
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.2)


def left_over(marker: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("RAYMLOPS_TEST") == marker and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def register(home: Path, maker: Any) -> Callable[..., Any]:
    make = maker(home)

    def registered(name: str, number: int, **words: Any) -> Any:
        made = make(name, number=number, **words)
        wanted = made.wanted
        version = registry.register(name, digest=wanted.digest, path=Path(wanted.path), run_id=None, tags={})
        assert version.number == number
        return version

    return registered


def spec(name: str, port: int) -> Spec:
    return parse(
        f"name: {name}\ndata: {{source: {{parquet: rows.parquet}}, label: late}}\n"
        f"train: {{trainers: {{xgboost: {{}}}}}}\nserve: {{port: {port}, max_rows: 50}}"
    )


def replica_pids(dashboard: str, home: Path) -> set[int]:
    headers = {"Authorization": f"Bearer {(home / 'token').read_text()}"}
    details = httpx.get(f"{dashboard}/api/serve/applications/", headers=headers, timeout=20, trust_env=False).json()
    replicas = details["applications"]["raymlops"]["deployments"]["endpoint"]["replicas"]
    return {replica["pid"] for replica in replicas}


def test_two_models_stand_side_by_side_and_a_new_version_drops_no_request(
    dashboard: str, home: Path, port: int, register: Callable[..., Any]
) -> None:
    register("small", 1)
    register("sorted", 1, label="grade")
    made = serve.run(spec("small", port), model="small@1", dashboard=dashboard)
    assert made["url"] == f"http://127.0.0.1:{port}"
    assert (made["model"], made["version"], made["engine"]) == ("small", 1, "native")
    serve.run(spec("sorted", port), model="sorted@1", dashboard=dashboard)
    pids = replica_pids(dashboard, home)

    with Client(str(made["url"])) as client:
        first = client.predict("small", ROWS)
        assert client.predict("sorted", ROWS).answers["prediction"].tolist()[0] in ("low", "middle", "high")
        assert client.ready("small", version=1)
        assert not client.ready("small", version=2)
    assert asyncio.run(asked(str(made["url"]))).answers["probability"].tolist() == first.answers["probability"].tolist()

    register("small", 2, seed=7)
    versions, errors, slowest = under_load(
        str(made["url"]), lambda: serve.run(spec("small", port), model="small@2", dashboard=dashboard)
    )
    assert errors == []
    assert set(versions) == {"1", "2"}
    assert versions == sorted(versions)
    assert slowest < 3.0
    assert replica_pids(dashboard, home) == pids
    with Client(str(made["url"])) as client:
        assert client.predict("small", ROWS).answers["probability"].tolist() != first.answers["probability"].tolist()
        assert client.ready("sorted", version=1)


async def asked(url: str) -> Prediction:
    async with AsyncClient(url) as client:
        return await client.predict("small", ROWS)


def under_load(url: str, change: Callable[[], object]) -> tuple[list[str], list[str], float]:
    """Ask without a pause while a change is made; return the versions that answered, errors, and the longest wait."""
    ended = threading.Event()
    versions: list[str] = []
    errors: list[str] = []
    waits: list[float] = []

    def ask() -> None:
        body = {
            "inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": [1, 0.5, 3, 1]}],
        }
        with httpx.Client(timeout=30, trust_env=False) as http:
            while not ended.is_set():
                start = time.monotonic()
                response = http.post(f"{url}/v2/models/small/infer", json=body)
                waits.append(time.monotonic() - start)
                if response.status_code == 200:
                    versions.append(response.json()["model_version"])
                else:
                    errors.append(response.text)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        while not versions and asking.is_alive():
            time.sleep(0.01)
        change()
        before = len(versions)
        while len(versions) < before + 5 and asking.is_alive():
            time.sleep(0.01)
    finally:
        ended.set()
        asking.join()
    return versions, errors, max(waits)


def test_over_the_wire_bad_input_and_ids_are_as_without_ray(
    dashboard: str, port: int, register: Callable[..., Any]
) -> None:
    register("small", 1)
    url = serve.run(spec("small", port), model="small@1", dashboard=dashboard)["url"]
    with httpx.Client(base_url=str(url), timeout=30, trust_env=False) as http:
        matrix = {"name": "x", "shape": [1, 4], "datatype": "FP64", "data": [9, 0.5, 3, 1]}
        refused = http.post("/v2/models/small/infer", json={"inputs": [matrix]})
        assert refused.status_code == 422
        assert refused.json()["problems"][0]["column"] == "colour"
        good = {**matrix, "data": [1, 0.5, 3, 1]}
        answer = http.post("/v2/models/small/infer", json={"inputs": [good]}, headers={"X-Request-Id": "mine"})
        assert (answer.json()["id"], answer.headers["X-Request-Id"]) == ("mine", "mine")
        many = {"name": "weight", "shape": [51], "datatype": "FP64", "data": [1] * 51}
        assert http.post("/v2/models/small/infer", json={"inputs": [many]}).status_code == 413
        assert http.get("/v2/health/ready").json() == {"ready": True}


def test_a_version_that_cannot_be_loaded_fails_with_its_cause_and_the_one_before_answers_on(
    dashboard: str, port: int, register: Callable[..., Any], home: Path
) -> None:
    register("small", 1)
    frail(register, home)
    serve.run(spec("small", port), model="small@1", dashboard=dashboard)
    state = (home / "serve" / "state.json").read_bytes()
    with pytest.raises(StageFailed, match="frail@1 could not be loaded"):
        serve.run(spec("frail", port), model="frail@1", dashboard=dashboard)
    assert (home / "serve" / "state.json").read_bytes() == state
    with Client(f"http://127.0.0.1:{port}") as client:
        assert client.predict("small", ROWS).model_version == "1"
        with pytest.raises(NotFound):
            client.metadata("frail")


def frail(register: Callable[..., Any], home: Path) -> None:
    """Register a version whose engine does not exist."""
    version = register("frail", 1, seed=3)
    write_aside(home / "engines" / version.digest / "choice.json", b'{"engine": "abacus", "options": {}}')


def test_a_first_version_that_cannot_be_loaded_fails_with_its_cause_and_leaves_nothing(
    dashboard: str, port: int, register: Callable[..., Any], home: Path
) -> None:
    stop_all(dashboard)
    frail(register, home)
    with pytest.raises(StageFailed, match=r"(?s)frail@1 could not be deployed.*unknown kind 'abacus'"):
        serve.run(spec("frail", port), model="frail@1", dashboard=dashboard)
    assert applications(dashboard) == ()


def stop_all(dashboard: str) -> None:
    for name in ("small", "sorted", "frail"):
        try:
            serve.stop(name, dashboard=dashboard)
        except NotFound:
            continue
    assert applications(dashboard) == ()


def test_a_port_that_another_program_holds_is_refused_and_the_program_named(
    dashboard: str, register: Callable[..., Any]
) -> None:
    register("small", 1)
    stop_all(dashboard)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match=f"port {port} is in use by pid {os.getpid()}"):
            serve.run(spec("small", port), model="small@1", dashboard=dashboard)


def test_keys_shut_the_endpoint_and_the_last_model_stopped_frees_its_port(
    dashboard: str, home: Path, port: int, register: Callable[..., Any]
) -> None:
    register("small", 1)
    (home / "keys").write_text("a-key-of-the-team\n")
    shut = spec("small", port).model_copy(
        update={"serve": spec("small", port).serve.model_copy(update={"keys": str(home / "keys")})}
    )
    url = str(serve.run(shut, model="small@1", dashboard=dashboard)["url"])
    assert httpx.get(f"{url}/v2/models/small", trust_env=False).status_code == 401
    assert httpx.get(f"{url}/v2/health/live", trust_env=False).status_code == 200
    with Client(url, key="a-key-of-the-team") as client:
        assert client.predict("small", pa.Table.from_pylist(ROWS)).model_version == "1"
    assert serve.stop("small", dashboard=dashboard) == {"stopped": "small", "served": []}
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
