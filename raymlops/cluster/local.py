"""An embedded Ray cluster on this machine: one head, bound to loopback, shut by a token, ended by its own pid.

Knows nothing of jobs or stages, and does not import Ray: the head is a child process in a session of its own. Its
processes are found again by a marker in their environment; `ray stop`, which ends every Ray of the machine, is
never called.
"""

import fcntl
import http.client
import os
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import orjson
import psutil

from raymlops.cluster import processes
from raymlops.cluster.ports import LOOPBACK, Block, free_block, holder, is_free
from raymlops.cluster.processes import MARKER, is_running
from raymlops.codec import dumps, write_aside
from raymlops.errors import Conflict, Unavailable
from raymlops.spec import home

__all__ = [
    "LocalCluster",
    "attached",
    "environment",
    "head_variables",
    "memory_bytes",
    "object_store_bytes",
    "start",
    "stop",
]

_DASHBOARD_PORT = 8265
_START_S = 90.0
_STOP_S = 10.0
# gcs, dashboard, metrics of dashboard and node, agent (http, grpc), runtime env, node, objects, client.
_SINGLE_PORTS = 10
_WORKER_PORTS = 300
# What would point the new head, or the jobs on it, at something else.
_NOT_INHERITED = (
    "RAY_ADDRESS",
    "RAY_API_SERVER_ADDRESS",
    "RAY_AUTH_TOKEN",
    "RAY_JOB_CONFIG_JSON_ENV_VAR",
    "RAYMLOPS_ATTEMPT",
    "RAYMLOPS_STEP",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalCluster:
    """A running head: its process, and where its job server (`dashboard`, a URL) and GCS (`HOST:PORT`) answer.

    `created` is the start of the process in seconds of the epoch, so that a reused pid is never taken for it.
    """

    pid: int
    created: float
    marker: str
    dashboard: str
    gcs: str
    folder: Path
    log: Path
    token: Path


def start(*, cpus: int | None = None, dashboard_port: int | None = None, tied: bool = False) -> LocalCluster:
    """Start a head and wait until its job server answers; return the one that is up already, if there is one.

    A tied cluster is a new one, ends with this process, and is not found by `attached`. Unavailable: the port is
    taken, or the head does not come up. Conflict: a cluster is up on another port than the one asked for.
    """
    home().mkdir(parents=True, exist_ok=True)
    with _one_at_a_time(home() / "cluster.lock"):
        running = None if tied else attached()
        if running and dashboard_port not in (None, urlsplit(running.dashboard).port):
            raise Conflict(f"a local cluster is up at {running.dashboard}; `raymlops down` first, or use that one")
        return running or _launched(cpus, dashboard_port, tied=tied)


def stop(cluster: LocalCluster | None = None) -> bool:
    """End a cluster (else: this home's) and every process it started, jobs and endpoints too; clear its folder.

    Return whether there was one. It does not matter whether the cluster still answers.
    """
    cluster = cluster or _recorded()
    if cluster is None:
        return False
    if is_running(cluster.pid, cluster.created):
        head = psutil.Process(cluster.pid)
        head.terminate()
        psutil.wait_procs([head], timeout=_STOP_S)
    _clear(cluster)
    return True


def attached() -> LocalCluster | None:
    """Return the cluster of this home if it is alive, else None; what a dead one left behind is cleared away."""
    cluster = _recorded()
    if cluster is None:
        return None
    if is_running(cluster.pid, cluster.created):
        if any(_answers(cluster, timeout_s=timeout_s) for timeout_s in (2.0, 5.0)):
            return cluster
        raise Unavailable(
            f"the local cluster (pid {cluster.pid}) runs but {cluster.dashboard} does not answer; "
            f"see {cluster.log}, or end it with `raymlops down`"
        )
    _clear(cluster)
    return None


def environment(cluster: LocalCluster) -> dict[str, str]:
    """Return the environment variables that a process needs to use a cluster, as client or as job."""
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(cluster.token),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAYMLOPS_HOME": str(home()),
    }


def head_variables(marker: str) -> dict[str, str]:
    """Return the environment of a head: on loopback, shut by this home's token, marked, with processes that wait.

    A process takes a second or two to start and to import what scoring needs, so the head starts one
    for each CPU before there is work. They work with the priority of who asked for it: by default Ray lets every
    other process of the machine go first.
    """
    return {
        MARKER: marker,
        "PYTHONUNBUFFERED": "1",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(_token()),
        # The only switch that makes Ray take 127.0.0.1 as this machine's address: --node-ip-address 127.0.0.1 is
        # replaced by the address of a network card (measured, Ray 2.60).
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # Draining is for clusters of many nodes; here it would only delay the end by seconds.
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_enable_worker_prestart": "1",
        "RAY_preload_python_modules": "raymlops.cluster.warm",
        "RAY_worker_niceness": "0",
        # A process that renames itself writes over its environment, and the marker in it, unless told not to.
        "SPT_NOENV": "1",
        "RAYMLOPS_HOME": str(home()),
    }


def object_store_bytes() -> int:
    """Return a third of the memory as Ray does, but no more than /dev/shm holds: beyond it Ray falls back to disk."""
    wanted = int(psutil.virtual_memory().total * 0.3)
    shm = Path("/dev/shm")
    room = int(shutil.disk_usage(shm).free * 0.8) if shm.is_dir() else wanted
    return max(min(wanted, room), 100 * 2**20)


def memory_bytes(marker: str) -> int:
    """Return the memory that the processes of a cluster use, shared pages counted once."""
    return processes.memory_bytes(marker)


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _launched(cpus: int | None, dashboard_port: int | None, *, tied: bool) -> LocalCluster:
    if dashboard_port is not None and not is_free(dashboard_port):
        raise Unavailable(f"port {dashboard_port} is held by {holder(dashboard_port)}; name another, or none")
    for last in (False, False, True):
        try:
            return _tried(cpus, dashboard_port, tied=tied)
        except Unavailable:
            # A port may have been taken between choice and use: choose again. A given port stays as given.
            if last or dashboard_port is not None:
                raise
    raise AssertionError


def _tried(cpus: int | None, dashboard_port: int | None, *, tied: bool) -> LocalCluster:
    marker = secrets.token_hex(8)
    block = free_block(_SINGLE_PORTS, _WORKER_PORTS, draw=random.Random(marker))
    port = dashboard_port or (_DASHBOARD_PORT if is_free(_DASHBOARD_PORT) else block.first + 1)
    # Short: the path of a unix socket below it may have 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="rml-"))
    log = (folder if tied else home()) / "cluster.log"
    inherited = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    environ = inherited | head_variables(marker) | {"DASHBOARD_METRIC_PORT": str(block.first + 2)}
    with log.open("wb") as out:
        child = subprocess.Popen(
            _command(cpus, port, block, folder),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environ,
            cwd=folder,
        )
    cluster = LocalCluster(
        pid=child.pid,
        created=psutil.Process(child.pid).create_time(),
        marker=marker,
        dashboard=f"http://{LOOPBACK}:{port}",
        gcs=f"{LOOPBACK}:{block.first}",
        folder=folder,
        log=log,
        token=_token(),
    )
    try:
        if tied:
            processes.reap_after_this_one(cluster.marker, cluster.folder)
        _wait_until_it_answers(cluster, child)
        _wake(cluster)
    except BaseException:
        stop(cluster)
        raise
    if not tied:
        _record(cluster)
    return cluster


def _token() -> Path:
    path = home() / "cluster-token"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        aside.replace(path)
    return path


def _command(cpus: int | None, dashboard_port: int, block: Block, folder: Path) -> list[str]:
    low, high = block.range
    options = {
        "--port": block.first,
        "--include-dashboard": "true",
        "--dashboard-host": LOOPBACK,
        "--dashboard-port": dashboard_port,
        "--metrics-export-port": block.first + 3,
        "--dashboard-agent-listen-port": block.first + 4,
        "--dashboard-agent-grpc-port": block.first + 5,
        "--runtime-env-agent-port": block.first + 6,
        "--node-manager-port": block.first + 7,
        "--object-manager-port": block.first + 8,
        "--ray-client-server-port": block.first + 9,
        # One process fewer: workers' logs are not sent to drivers.
        "--include-log-monitor": "false",
        "--min-worker-port": low,
        "--max-worker-port": high,
        "--node-ip-address": LOOPBACK,
        "--temp-dir": folder,
        "--object-store-memory": object_store_bytes(),
        "--log-color": "false",
    } | ({"--num-cpus": cpus} if cpus is not None else {})
    words = [f"{name}={value}" for name, value in options.items()]
    return [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--no-monitor",
            "--disable-usage-stats", *words]  # fmt: skip


def _wait_until_it_answers(cluster: LocalCluster, child: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START_S
    while not _answers(cluster, timeout_s=1.0):
        ended = child.poll() is not None
        if ended or time.monotonic() > deadline:
            what = f"ended with {child.returncode}" if ended else f"did not answer within {_START_S:.0f} s"
            lines = cluster.log.read_text(errors="replace").strip().splitlines()
            raise Unavailable(f"the local cluster {what}: {' | '.join(lines[-5:])[-600:]}")
        time.sleep(0.1)


def _answers(cluster: LocalCluster, *, timeout_s: float) -> bool:
    url = urlsplit(cluster.dashboard)
    connection = http.client.HTTPConnection(url.hostname or LOOPBACK, url.port, timeout=timeout_s)
    try:
        connection.request("GET", "/api/version", headers=_bearer(cluster))
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _wake(cluster: LocalCluster) -> None:
    """Ask for what is served and do not wait: the dashboard imports Ray Serve with the first question, in 1.5 s."""
    url = urlsplit(cluster.dashboard)
    connection = http.client.HTTPConnection(url.hostname or LOOPBACK, url.port, timeout=1.0)
    try:
        connection.request("GET", "/api/serve/applications/", headers=_bearer(cluster))
    except OSError:
        return  # whoever serves will wait instead
    finally:
        connection.close()


def _bearer(cluster: LocalCluster) -> dict[str, str]:
    return {"Authorization": f"Bearer {cluster.token.read_text()}"}


def _state() -> Path:
    return home() / "cluster.json"


def _record(cluster: LocalCluster) -> None:
    values = {name: getattr(cluster, name) for name in LocalCluster.__slots__}
    text = dumps({name: str(v) if isinstance(v, Path) else v for name, v in values.items()}, indent=True)
    write_aside(_state(), text)


def _recorded() -> LocalCluster | None:
    try:
        values = orjson.loads(_state().read_bytes())
        return LocalCluster(**values | {name: Path(values[name]) for name in ("folder", "log", "token")})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise Unavailable(f"{_state()}: is not a cluster's state: {error}; remove it if none runs") from error


def _clear(cluster: LocalCluster) -> None:
    processes.end(cluster.marker, wait_s=3.0)
    shutil.rmtree(cluster.folder, ignore_errors=True)
    try:
        recorded = _recorded()
    except Unavailable:
        return
    if recorded is not None and recorded.marker == cluster.marker:
        _state().unlink(missing_ok=True)
