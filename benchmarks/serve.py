"""One-row answers a second over HTTP: ours through Ray Serve, against a bare application with the same predictor.

    python benchmarks/serve.py [--quick] [--json]

The rival is Starlette on uvicorn, one process: it parses the same body with orjson, calls the same predictor and
writes the numbers, without contract, checks or keys. The second line is our application on uvicorn without Ray, to
tell what the protocol and the contract cost from what Ray Serve costs. Eight connections, one row of 28 numbers a
request as JSON, from a process of its own; rounds are interleaved, the numbers are medians. The bars are those of
this stage: what is behind Ray Serve's own proxy cannot be near a bare server. Exit 1 when a bar is missed.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import orjson
import pyarrow as pa

from raymlops import cluster, registry, serve
from raymlops.cluster.ports import free_block
from raymlops.codec import dumps
from raymlops.contract import infer
from raymlops.engine import predictor
from raymlops.serve.app import build
from raymlops.serve.models import Models, Wanted, load
from raymlops.spec import parse
from raymlops.values import Version

FEATURES, TREES, DEPTH, CONNECTIONS = 28, 100, 6, 8
NAME = "bench"
BARS = {"ray": 0.01, "plain": 0.1}
WHAT = {"ray": "through Ray Serve", "plain": "our application on uvicorn, without Ray"}


def main() -> int:
    """Measure, print a line a number, and return the exit code."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--quick", action="store_true", help="3 rounds of 1 s, not 7 of 3 s")
    arguments.add_argument("--json", action="store_true", help="a JSON object a line")
    arguments.add_argument("--role", choices=("bare", "plain", "load"), help=argparse.SUPPRESS)
    arguments.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.role == "load":
        return generate(given.words[0], float(given.words[1]))
    if given.role:
        return serve_here(given.role, orjson.loads(given.words[0]), int(given.words[1]))
    rounds, seconds = (3, 1.0) if given.quick else (7, 3.0)
    with tempfile.TemporaryDirectory(prefix="rmb-") as home, ExitStack() as stack:
        os.environ["RAYMLOPS_HOME"] = home
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        taken = measure(stack, rounds=rounds, seconds=seconds)
    return report(taken, as_json=given.json)


def measure(stack: ExitStack, *, rounds: int, seconds: float) -> dict[str, list[dict[str, float]]]:
    """Return what each server did in each round; all three stand up at once and take turns."""
    version = make_version()
    ports = [free_block(1, 1, draw=draw).first for draw in _draws(3)]
    wanted = {"name": NAME, "number": 1, "digest": version.digest, "path": str(version.path), "max_rows": 100}
    stack.enter_context(child("bare", wanted, ports[0]))
    stack.enter_context(child("plain", wanted, ports[1]))
    stack.enter_context(on_ray(ports[2]))
    urls = {
        name: f"http://127.0.0.1:{port}/v2/models/{NAME}/infer"
        for name, port in zip(("bare", "plain", "ray"), ports, strict=True)
    }
    check_answers(urls)
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in urls}
    for number in range(rounds + 1):
        for name in list(urls) if number % 2 else list(urls)[::-1]:
            found = load_from_outside(urls[name], seconds)
            if number:  # the first round warms up
                taken[name].append(found)
    return taken


def _draws(count: int) -> list[Any]:
    from random import Random

    return [Random(os.getpid() * 10 + number) for number in range(count)]


def make_version() -> Version:
    """Register a model of 100 trees, 28 features, and a contract of numbers."""
    import xgboost

    random = np.random.default_rng(0)
    x = random.normal(size=(5_000, FEATURES)).astype(np.float32)
    y = (x[:, :5].sum(axis=1) + random.normal(size=len(x)) > 0).astype(np.int64)
    names = [f"f{j}" for j in range(FEATURES)]
    contract = infer(pa.table([*x.T, y], names=[*names, "y"]), features=names, label="y")
    settings = {"objective": "binary:logistic", "max_depth": DEPTH, "seed": 0}
    model = {"format": "xgboost", "trainer": "xgboost", "task": "binary", "classes": 2, "features": FEATURES}
    files = {
        "model.json": dumps({**model, "categories": [0] * FEATURES, "params": {}}),
        "contract.json": dumps(contract.to_json()),
        "model.ubj": bytes(xgboost.train(settings, xgboost.DMatrix(x, y), TREES).save_raw("ubj")),
    }
    digest, path = registry.store_folder(files)
    return registry.register(NAME, digest=digest, path=path, run_id=None, tags={})


@contextmanager
def child(role: str, wanted: dict[str, Any], port: int) -> Iterator[None]:
    """Run this file as a server of its own until the end."""
    words = [sys.executable, __file__, "--role", role, dumps(wanted).decode(), str(port)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not answers(port):
            assert process.poll() is None, f"{role} ended with {process.returncode}"
            assert time.monotonic() < deadline, f"{role} does not answer"
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(timeout=10)


def answers(port: int) -> bool:
    """Return whether a server is there."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/v2/health/live", trust_env=False).status_code < 500
    except httpx.TransportError:
        return False


@contextmanager
def on_ray(port: int) -> Iterator[None]:
    """Serve the model on a cluster that ends with the benchmark."""
    own = cluster.start(tied=True, cpus=2)
    try:
        os.environ.update(cluster.environment(own))
        text = f"name: {NAME}\ndata: {{source: {{parquet: rows.parquet}}, label: y}}\n"
        spec = parse(text + f"train: {{trainers: {{xgboost: {{}}}}}}\nserve: {{port: {port}}}")
        serve.run(spec, model=f"{NAME}@1", dashboard=own.dashboard)
        yield
    finally:
        cluster.stop(own)


def serve_here(role: str, wanted: dict[str, Any], port: int) -> int:
    """Be the rival, or our application without Ray."""
    import uvicorn

    app = bare(wanted) if role == "bare" else build(Models(loaded={NAME: load(Wanted.from_json(wanted))}))
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)
    return 0


def bare(wanted: dict[str, Any]) -> Any:
    """Return the rival: parse, predict, write, and nothing else."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    path = Path(wanted["path"])
    model = predictor(Version(name=NAME, number=1, digest=wanted["digest"], path=path), threads=1)

    async def answer(request: Request) -> Response:
        tensor = orjson.loads(await request.body())["inputs"][0]
        y = model.predict(np.array(tensor["data"], dtype=np.float32).reshape(tensor["shape"]))
        output = {"name": "probability", "shape": y.shape, "datatype": "FP32", "data": y}
        body = {"model_name": NAME, "outputs": [output]}
        return Response(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")

    return Starlette(routes=[Route(f"/v2/models/{NAME}/infer", answer, methods=["POST"])])


def request_body() -> bytes:
    """Return one row, as both sides get it."""
    data = np.random.default_rng(1).normal(size=FEATURES).astype(np.float32)
    tensor = {"name": "x", "shape": [1, FEATURES], "datatype": "FP32", "data": data}
    return orjson.dumps({"inputs": [tensor]}, option=orjson.OPT_SERIALIZE_NUMPY)


def check_answers(urls: dict[str, str]) -> None:
    """See that all servers answer the same number."""
    found = {}
    for name, url in urls.items():
        response = httpx.post(url, content=request_body(), trust_env=False, timeout=30)
        found[name] = response.json()["outputs"][0]["data"]
    assert len({str(value) for value in found.values()}) == 1, found


def load_from_outside(url: str, seconds: float) -> dict[str, float]:
    """Run the load in a process of its own and return what it saw."""
    words = [sys.executable, __file__, "--role", "load", url, str(seconds)]
    done = subprocess.run(words, check=True, capture_output=True, timeout=seconds + 60)
    found: dict[str, float] = orjson.loads(done.stdout)
    return found


def generate(url: str, seconds: float) -> int:
    """Send one request after the other on each connection; print requests a second and percentiles."""
    parts = urlsplit(url)
    body = request_body()
    head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
    message = head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
    waits: list[float] = []

    async def connection(deadline: float) -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        while (start := time.perf_counter()) < deadline:
            writer.write(message)
            headers = await reader.readuntil(b"\r\n\r\n")
            assert headers.startswith(b"HTTP/1.1 200"), headers
            length = headers.lower().split(b"content-length:")[1].split(b"\r\n")[0]
            await reader.readexactly(int(length))
            waits.append(time.perf_counter() - start)
        writer.close()

    async def run() -> float:
        start = time.perf_counter()
        await asyncio.gather(*(connection(start + seconds) for _ in range(CONNECTIONS)))
        return time.perf_counter() - start

    elapsed = asyncio.run(run())
    cuts = quantiles(waits, n=100)
    print(json.dumps({"rate": len(waits) / elapsed, "p50_ms": cuts[49] * 1e3, "p99_ms": cuts[98] * 1e3}))
    return 0


def report(taken: dict[str, list[dict[str, float]]], *, as_json: bool) -> int:
    """Print the lines and return the exit code."""
    middle = {name: {key: median(r[key] for r in rounds) for key in rounds[0]} for name, rounds in taken.items()}
    met = True
    for name, bar in BARS.items():
        ours, rival = middle[name], middle["bare"]
        ratio = ours["rate"] / rival["rate"]
        met &= ratio >= bar
        what = f"one-row JSON, {CONNECTIONS} connections, req/s, {WHAT[name]}"
        if as_json:
            words = {"what": what, "ours": ours, "rival": rival, "ratio": ratio, "bar": bar, "met": ratio >= bar}
            print(json.dumps(words))
            continue
        shown = [f"{s['rate']:,.0f} (p50 {s['p50_ms']:.1f} ms, p99 {s['p99_ms']:.1f} ms)" for s in (ours, rival)]
        verdict = "met" if ratio >= bar else "missed"
        print(f"{what} · {shown[0]} · {shown[1]} · {ratio:.3f}x · >= {bar:g}x at this stage · {verdict}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
