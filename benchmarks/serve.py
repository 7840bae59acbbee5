"""The endpoint against a bare server and Ray Serve: requests a second, kills, the first answer, memory, side by side.

    python benchmarks/serve.py [--quick] [--only PART …] [--json]

100 trees of depth 6 on 28 features in ONNX Runtime with one thread, requests in the Open Inference Protocol, two cores,
the load generator (wrk, 16 connections) among them. Ours is the endpoint as `raymlops serve` starts it: on a cluster,
one replica, the contract checked, numbers counted. The floor is one process of uvicorn that decodes, predicts, encodes
and does nothing else. Rounds are interleaved, numbers are medians, and all answer the same before a line is printed. A
bar of 0 is a number that is told and promises nothing. Exit 1 when a bar is missed.

Parts: one (a row a request; MLServer, BentoML, LitServe and mlflow are asked too), hundred (100 rows), grpc, batching,
int8 (networks, in process), start, faults, memory. Needs wrk; pip puts the tools into `benchmarks/.rivals-*/`, once.
"""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import httpx
import numpy as np
import psutil
import serve_batching
import serve_int8
from line import Line, parser, print_lines
from serve_peers import OIP, Wire
from serve_work import (
    FEATURES,
    Load,
    NotMeasured,
    Wave,
    binary_body,
    body,
    new_models,
    ours,
    probability,
    rival,
    wire_of,
    wrk,
)  # fmt: skip

from raymlops import cluster
from raymlops.cluster.processes import marked

# What stands beside ours in part one, and how many times its rate ours must reach.
RIVALS = {
    "floor": ("the floor", 0.6),
    "tutorial": ("Ray Serve as its tutorial has it", 40.0),
    "haproxy": ("Ray Serve's HAProxy, raw ASGI", 2.5),
    "mlserver": ("MLServer, in process", 10.0),
    "bentoml": ("BentoML", 15.0),
    "litserve": ("LitServe, fast queue", 15.0),
    "mlflow": ("mlflow models serve", 15.0),
}


class Bench:
    """A folder with models, and how long and how often to measure."""

    def __init__(self, folder: Path, *, quick: bool) -> None:
        self.folder, self.quick = folder, quick
        self.rounds, self.seconds = (1, 2.0) if quick else (5, 5.0)
        self.graphs = new_models(folder)

    def waves(self, urls: dict[str, tuple[str, Load]]) -> dict[str, Wave]:
        """Return the medians of each server over rounds in which each has its turn, after one to warm up."""
        found: dict[str, list[Wave]] = {name: [] for name in urls}
        for number in range(self.rounds + 1):
            for name, (url, load) in urls.items():
                wave = wrk(url, load, self.seconds if number else 1.0)
                found[name] += [wave] if number else []
        return {
            name: Wave(
                rate=median(w.rate for w in waves),
                p50_ms=median(w.p50_ms for w in waves),
                p99_ms=median(w.p99_ms for w in waves),
            )
            for name, waves in found.items()
        }


def main() -> int:
    """Measure and print; exit 1 when a bar is missed."""
    words = parser(__doc__, quick="one round of 2 s, not five of 5 s; a tenth of the requests for memory")
    words.add_argument("--only", nargs="+", metavar="PART", choices=PARTS, help="only these parts")
    given = words.parse_args()
    missed = 0
    with tempfile.TemporaryDirectory(prefix="rmb-") as name:
        bench = Bench(Path(name), quick=given.quick)
        for part in given.only or PARTS:
            try:
                missed |= print_lines(PARTS[part](bench), as_json=given.json)
            except NotMeasured as error:
                missed = 1
                print(f"{part}: could not be measured: {error}", file=sys.stderr)
    return missed


def _one(bench: Bench) -> list[Line]:
    lines = [_beside(bench, role, title, bar) for role, (title, bar) in RIVALS.items()]
    with ours("trees") as (url, _, _):
        wave = bench.waves({"ours": (url, body(bench.folder, 1, 16))})["ours"]
    quoted = f"predictions, one a request, p99 {wave.p99_ms:.1f} ms of 50; rival: what the field quotes"
    rate = wave.rate if wave.p99_ms < 50 else 0.0
    return [*lines, Line(what=quoted, unit="a second", ours=rate, rival=10_000, ratio=rate / 10_000, bar=1)]


def _beside(bench: Bench, role: str, title: str, bar: float) -> Line:
    """Ask ours and a rival in turn; a rival that cannot be measured is a line that says why."""
    what, wire = f"one row, JSON, 16 connections; rival: {title}", wire_of(role)
    try:
        with ExitStack() as stack:
            url, _, _ = stack.enter_context(ours("trees"))
            other, _ = stack.enter_context(rival(role, bench.graphs["trees"]))
            _same(url, other, wire)
            mine, theirs = body(bench.folder, 1, 16), body(bench.folder, 1, 16, wire=wire)
            found = bench.waves({"ours": (url, mine), "rival": (other, theirs)})
        return _rate(what, found["ours"], found["rival"], bar)
    except NotMeasured as error:
        return Line(what=f"{what}, not measured: {error}", unit="req/s", ours=0.0, rival=0.0, ratio=0.0, bar=bar)


def _hundred(bench: Bench) -> list[Line]:
    json, binary = body(bench.folder, 100, 8), binary_body(bench.folder, 100, 8)
    with ExitStack() as stack:
        url, _, _ = stack.enter_context(ours("trees"))
        floor, _ = stack.enter_context(rival("floor", bench.graphs["trees"]))
        _same(url, floor)
        found = bench.waves({"ours": (url, json), "floor": (floor, json), "binary": (url, binary)})
    with ours("stump") as (url, _, _):
        small = bench.waves({"json": (url, json), "binary": (url, binary)})
    return [
        _rate("100 rows, JSON, 8 connections; rival: the floor", found["ours"], found["floor"], 0.8),
        _rate("100 rows, binary, 8 connections; rival: ours in JSON", found["binary"], found["ours"], 0.0),
        _rate("the same of one small tree; rival: ours in JSON", small["binary"], small["json"], 1.5),
    ]


def _grpc(bench: Bench) -> list[Line]:
    with ExitStack() as stack:
        _, port, _ = stack.enter_context(ours("trees", grpc=True))
        other, _ = stack.enter_context(rival("grpc", bench.graphs["trees"]))
        ports = {"ours": port, "ray": urlsplit(other).port or 0}
        rates: dict[str, list[float]] = {name: [] for name in ports}
        for _ in range(bench.rounds):
            for name, of in ports.items():
                rates[name].append(_asked_by_grpc(name, of, bench.seconds))
    mine, theirs = (median(rates[name]) for name in ports)
    what = "one row over gRPC, 16 callers in one Python process; rival: Ray Serve's gRPC ingress"
    return [Line(what=what, unit="req/s", ours=mine, rival=theirs, ratio=mine / theirs, bar=3)]


def _asked_by_grpc(name: str, port: int, seconds: float) -> float:
    """Ask from a process of its own; return requests a second."""
    words = [sys.executable, __file__, "--grpc", name, str(port), str(seconds)]
    return float(subprocess.run(words, capture_output=True, check=True).stdout)


def grpc_callers(name: str, port: int, seconds: float) -> float:
    """Be 16 callers that ask without a pause; return requests a second."""
    import grpc
    import pyarrow as pa
    from google.protobuf.wrappers_pb2 import BytesValue

    from raymlops.codec import InferRequest, Tensor
    from raymlops.codec.oip_grpc import write_request

    x = np.random.default_rng(1).normal(size=FEATURES).astype(np.float32)
    tensor = Tensor(name="x", shape=(1, FEATURES), datatype="FP32", data=pa.array(x))
    method, message = {
        "ours": ("/inference.GRPCInferenceService/ModelInfer",
                 write_request(InferRequest(inputs=(tensor,), model_name="trees"))),
        "ray": ("/bench.Model/Infer", BytesValue(value=x.tobytes()).SerializeToString()),
    }[name]  # fmt: skip

    async def all_of_them() -> float:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            infer = channel.unary_unary(method)
            await infer(message)
            end, count = time.perf_counter() + seconds, 0

            async def caller() -> None:
                nonlocal count
                while time.perf_counter() < end:
                    await infer(message)
                    count += 1

            await asyncio.gather(*(caller() for _ in range(16)))
            return count / seconds

    return asyncio.run(all_of_them())


def _batching(bench: Bench) -> list[Line]:
    return serve_batching.lines(quick=bench.quick)


def _int8(bench: Bench) -> list[Line]:
    return serve_int8.lines(bench.folder, quick=bench.quick)


def _start(bench: Bench) -> list[Line]:
    spec = bench.folder / "start.yaml"
    text = "name: trees\ndata: {source: {parquet: rows.parquet}, label: y}\ntrain: {trainers: {xgboost: {}}}\n"
    cold, warm = [], []
    for number in range(1 if bench.quick else 3):
        spec.write_text(f"{text}serve: {{port: {18_000 + number}}}")
        cold.append(_first_answer(spec, 18_000 + number))
        running = cluster.start(cpus=2)
        try:
            time.sleep(5)  # it is warm when it has been up for a while
            warm.append(_first_answer(spec, 18_000 + number))
        finally:
            cluster.stop(running)
    what = "`raymlops serve` to the first answer"
    return [
        _less(f"{what}, no cluster up; rival: the limit", "s", median(cold), 12),
        _less(f"{what}, a cluster up; rival: the limit", "s", median(warm), 4),
    ]


def _first_answer(spec: Path, port: int) -> float:
    start = time.perf_counter()
    words = [sys.executable, "-m", "raymlops", "serve", str(spec), "--model", "trees@1"]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not _is_ready(f"http://127.0.0.1:{port}/v2/models/trees/ready"):
            if time.perf_counter() - start > 60:
                raise NotMeasured("no answer within a minute")
            time.sleep(0.01)
        return time.perf_counter() - start
    finally:
        process.terminate()
        process.wait()


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=1).status_code == 200
    except httpx.TransportError:
        return False


def _faults(bench: Bench) -> list[Line]:
    lines = []
    with ours("trees") as (url, _, running):
        for title, name in (("the server process", "raymlops.serve.server"), ("the replica", "ray::ServeReplica"),
                            ("Serve's controller", "ray::ServeController")):  # fmt: skip
            failed, gap = asyncio.run(_killed(url, running, name))
            what = f"kill -9 of {title} under 16 callers"
            lines.append(Line(what=f"{what}: requests that failed; rival: the limit", unit="requests", ours=failed,
                              rival=16, ratio=16 / failed if failed else 16.0, bar=1))  # fmt: skip
            lines.append(_less(f"{what}: longest time without an answer; rival: the limit", "s", gap, 2))
            time.sleep(8)  # until what was killed is back
    return lines


async def _killed(url: str, running: cluster.LocalCluster, name: str) -> tuple[int, float]:
    answered: list[float] = []
    failed, ended = 0, asyncio.Event()
    content = (b'{"inputs": [{"name": "x", "shape": [1, %d], "datatype": "FP32", "data": [%s]}]}'
               % (FEATURES, b",".join([b"0.5"] * FEATURES)))  # fmt: skip

    async def caller() -> None:
        nonlocal failed
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            while not ended.is_set():
                try:
                    answer = await client.post(url, content=content)
                    failed += answer.status_code != 200
                    answered.append(time.perf_counter())
                except httpx.TransportError:
                    failed += 1

    callers = [asyncio.create_task(caller()) for _ in range(16)]
    await asyncio.sleep(1.0)
    (victim,) = [p for p in marked(running.marker) if name in " ".join(p.cmdline())]
    victim.kill()
    await asyncio.sleep(5.0)
    ended.set()
    await asyncio.gather(*callers)
    return failed, max(after - before for before, after in pairwise(answered))


def _memory(bench: Bench) -> list[Line]:
    load, requests = body(bench.folder, 1, 16), 100_000 if bench.quick else 1_000_000
    with ours("trees") as (url, _, running):
        (server,) = [p for p in marked(running.marker) if "raymlops.serve.server" in p.cmdline()]
        flat = _growth(url, load, server, requests)
    with rival("leak", bench.graphs["trees"]) as (url, pid):
        leaking = _growth(url, load, psutil.Process(pid), requests)
    if leaking < 100:
        raise NotMeasured(f"the control keeps the body of each request, and {leaking:.0f} bytes were seen")
    what = f"memory kept a request, second half of {requests:,}, where a leaking control keeps {leaking:.0f}; rival: 16"
    return [_less(what, "B", max(flat, 0.1), 16)]


def _growth(url: str, load: Load, process: psutil.Process, requests: int) -> float:
    """Return the bytes by which a process grows with a request, from the middle on."""
    seen: list[tuple[float, float]] = []
    done = 0.0
    while done < requests:
        done += wrk(url, load, 2.0).rate * 2.0
        seen.append((done, process.memory_info().rss))
    half = [pair for pair in seen if pair[0] >= requests / 2] or seen
    counts, sizes = np.array(half).T
    return float(np.polyfit(counts, sizes, 1)[0]) if len(half) > 2 else float((sizes[-1] - sizes[0]) / np.ptp(counts))


def _same(url: str, other: str, wire: Wire = OIP) -> None:
    mine, theirs = probability(url, OIP), probability(other, wire)
    if mine != theirs:
        raise NotMeasured(f"the servers answer differently: {mine} and {theirs}")


def _rate(what: str, mine: Wave, other: Wave, bar: float) -> Line:
    what = f"{what} (p99 {mine.p99_ms:.1f} and {other.p99_ms:.1f} ms)"
    return Line(what=what, unit="req/s", ours=mine.rate, rival=other.rate, ratio=mine.rate / other.rate, bar=bar)


def _less(what: str, unit: str, mine: float, limit: float) -> Line:
    return Line(what=what, unit=unit, ours=mine, rival=limit, ratio=limit / mine, bar=1)


PARTS: dict[str, Callable[[Bench], list[Line]]] = {
    "one": _one, "hundred": _hundred, "grpc": _grpc, "batching": _batching, "int8": _int8, "start": _start,
    "faults": _faults, "memory": _memory,
}  # fmt: skip

if __name__ == "__main__":
    if sys.argv[1:2] == ["--grpc"]:
        print(grpc_callers(sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
        sys.exit(0)
    sys.exit(main())
