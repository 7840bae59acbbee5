"""The work of the serving benchmark: models of trees, request bodies, servers that stand while a block runs, and wrk.

Knows nothing of bars.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np
import psutil
import pyarrow as pa
from environment import rivals_python
from serve_peers import OIP, PEERS, Wire

from raymlops import cluster, registry, serve
from raymlops.codec import dumps
from raymlops.contract import infer
from raymlops.engine import compile_artefact, write_choice
from raymlops.spec import parse
from raymlops.values import Float32

__all__ = [
    "FEATURES", "Load", "NotMeasured", "Wave", "binary_body", "body", "new_models", "ours", "probability", "rival",
    "wire_of", "wrk",
]  # fmt: skip

FEATURES = 28
_HERE = Path(__file__).parent
_LUA = """
wrk.method = "POST"
local file = io.open("{path}", "rb")
wrk.body = file:read("*a")
file:close()
wrk.headers["Content-Type"] = "application/json"
{more}
"""


class NotMeasured(Exception):  # noqa: N818 - reads as what happened
    """A contestant is missing or failed, or did something else than what is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A body in a file and how many connections send it; ``json_length``: of its JSON, where tensors lie behind it."""

    path: Path
    connections: int
    rows: int
    json_length: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """What came of a load: requests a second and milliseconds."""

    rate: float
    p50_ms: float
    p99_ms: float


def new_models(folder: Path) -> dict[str, Path]:
    """Register `trees` (100 of depth 6) and `stump` (1 of depth 2) with ONNX Runtime; return each one's graph."""
    os.environ["RAYMLOPS_HOME"] = str(folder / "home")
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    return {name: _registered(name, rounds, depth) for name, rounds, depth in (("trees", 100, 6), ("stump", 1, 2))}


def _registered(name: str, rounds: int, depth: int) -> Path:
    import xgboost

    random = np.random.default_rng(0)
    x = random.normal(size=(5_000, FEATURES)).astype(np.float32)
    y = (x[:, :5].sum(axis=1) + random.normal(size=len(x)) > 0).astype(np.int64)
    names = [f"f{j}" for j in range(FEATURES)]
    contract = infer(pa.table([*x.T, y], names=[*names, "y"]), features=names, label="y")
    settings = {"objective": "binary:logistic", "max_depth": depth, "seed": 0}
    model = {"format": "xgboost", "trainer": "xgboost", "task": "binary", "classes": 2, "features": FEATURES}
    files = {
        "model.json": dumps({**model, "categories": [0] * FEATURES, "params": {}}),
        "contract.json": dumps(contract.to_json()),
        "model.ubj": bytes(xgboost.train(settings, xgboost.DMatrix(x, y), rounds).save_raw("ubj")),
    }
    digest, path = registry.store_folder(files)
    version = registry.register(name, digest=digest, path=path, run_id=None, tags={})
    write_choice(version, "onnxruntime", "the benchmark's")
    return compile_artefact(version, "onnxruntime", x[:100]) / "model.onnx"


def body(folder: Path, rows: int, connections: int, *, wire: Wire = OIP) -> Load:
    """Return rows as one matrix, in JSON."""
    path = folder / f"{rows}-{wire.name}"
    path.write_bytes(json.dumps(wire.write(_rows(rows))).encode())
    return Load(path=path, connections=connections, rows=rows)


def binary_body(folder: Path, rows: int, connections: int) -> Load:
    """Return the rows of `body` behind the JSON."""
    x, path = _rows(rows), folder / f"{rows}-binary"
    tensor = {"name": "x", "shape": [*x.shape], "datatype": "FP32", "parameters": {"binary_data_size": x.nbytes}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    path.write_bytes(head + x.tobytes())
    return Load(path=path, connections=connections, rows=rows, json_length=len(head))


def _rows(count: int) -> Float32:
    return np.random.default_rng(1).normal(size=(count, FEATURES)).astype(np.float32)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def ours(name: str, *, grpc: bool = False) -> Iterator[tuple[str, int, cluster.LocalCluster]]:
    """Serve a model on a cluster that ends with the block; the value is its URL, its port of gRPC, and the cluster."""
    own, before = cluster.start(tied=True, cpus=2), dict(os.environ)
    try:
        os.environ.update(cluster.environment(own))
        port, grpc_port = _free_port(), _free_port()
        more = f", grpc_port: {grpc_port}" if grpc else ""
        text = f"name: {name}\ndata: {{source: {{parquet: rows.parquet}}, label: y}}\n"
        spec = parse(text + f"train: {{trainers: {{xgboost: {{}}}}}}\nserve: {{port: {port}{more}}}")
        serve.run(spec, model=f"{name}@1", dashboard=own.dashboard)
        yield f"http://127.0.0.1:{port}/v2/models/{name}/infer", grpc_port, own
    finally:
        cluster.stop(own)
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def rival(role: str, graph: Path) -> Iterator[tuple[str, int]]:
    """Let a server stand until the end of the block; the value is its URL and its pid."""
    words, port, wire = _program(role), _free_port(), wire_of(role)
    with TemporaryDirectory(prefix="rmb-", ignore_cleanup_errors=True) as folder:
        said = Path(folder) / "said"
        with said.open("wb") as log:
            process = subprocess.Popen([*words, str(port), str(graph)], cwd=folder, stdout=log, stderr=log,
                                       start_new_session=True)  # fmt: skip
        try:
            url = f"http://127.0.0.1:{port}{wire.path}"
            deadline = time.monotonic() + 120
            while not (_listens(port) if role == "grpc" else _answers(url, wire)):
                if process.poll() is not None or time.monotonic() > deadline:
                    last = " ".join(said.read_text(errors="replace").split())[-300:]
                    raise NotMeasured(f"{role}: does not answer (ended with {process.poll()}): {last}")
                time.sleep(0.1)
            yield url, process.pid
        finally:
            _end(process)


def wire_of(role: str) -> Wire:
    """Return how a rival is asked."""
    return PEERS[role].wire if role in PEERS else OIP


def _program(role: str) -> list[str]:
    if role not in PEERS:
        return [sys.executable, str(_HERE / "serve_rivals.py"), role]
    try:
        return [str(rivals_python(PEERS[role].pins)), str(_HERE / f"serve_{role}.py")]
    except subprocess.CalledProcessError as error:
        raise NotMeasured(f"{role}: pip ended with {error.returncode} over {PEERS[role].pins}") from error


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a server and all that it started, also what has left its session."""
    started = []
    with suppress(psutil.NoSuchProcess):
        started = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=30)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for child in started:
        with suppress(psutil.Error):
            child.kill()


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _answers(url: str, wire: Wire) -> bool:
    try:
        return _asked(url, wire).status_code == 200
    except httpx.TransportError:
        return False


def _asked(url: str, wire: Wire) -> httpx.Response:
    row = np.full((1, FEATURES), 0.5, dtype=np.float32)
    return httpx.post(url, json=wire.write(row), trust_env=False, timeout=10)


def probability(url: str, wire: Wire) -> float:
    """Return what a server answers to one known row, to see that all answer alike."""
    return float(np.float32(wire.read(_asked(url, wire).json())))


def wrk(url: str, load: Load, seconds: float) -> Wave:
    """Send the load for some seconds from one thread of wrk; raise NotMeasured when an answer is not a 200."""
    if shutil.which("wrk") is None:
        raise NotMeasured("wrk is missing: apt-get install wrk")
    script = load.path.with_suffix(".lua")
    more = f'wrk.headers["Inference-Header-Content-Length"] = "{load.json_length}"' if load.json_length else ""
    script.write_text(_LUA.format(path=load.path, more=more))
    words = ["wrk", "-t1", f"-c{load.connections}", f"-d{seconds:g}", "-s", str(script), "--latency", url]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise NotMeasured(f"{url}: {said[-300:]}")
    found = re.search(r"Requests/sec:\s+([\d.]+)", said)
    assert found
    return Wave(rate=float(found.group(1)), p50_ms=_percentile(said, "50%"), p99_ms=_percentile(said, "99%"))


def _percentile(said: str, name: str) -> float:
    found = re.search(rf"{name}\s+([\d.]+)(us|ms|s)", said)
    assert found
    return float(found.group(1)) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[found.group(2)]
