"""Over real sockets, with clients that nobody here wrote, Triton's of HTTP and gRPC, and with callers who mean ill."""

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
import uvicorn

from raymlops.serve.app import build
from raymlops.serve.models import Models
from raymlops.serve.patient import Patient, look_after
from tests.serve.test_on_ray import free_port
from tests.serve.test_supervisor import Running

ROWS: dict[str, tuple[str, np.ndarray]] = {
    "colour": ("BYTES", np.array(["blue", "3"], dtype=object)),
    "weight": ("FP64", np.array([0.5, np.nan])),
    "count": ("INT64", np.array([3, 40])),
    "flag": ("BOOL", np.array([True, False])),
}


@pytest.fixture(scope="module")
def grpc_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def running(models: Models, grpc_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    made = Running(tmp_path_factory.mktemp("metrics"))
    batching = {"most_rows": 8, "wait_ms": 1.0}
    wanted = [model.wanted for model in models.loaded.values()]
    wanted[0] = replace(wanted[0], batching=batching)
    config = {"models": [asdict(one) for one in wanted], "keys": [], "grpc_port": grpc_port}
    assert made.do(made.supervisor.serve(config)) == []
    yield made
    made.end()


@pytest.fixture(scope="module")
def http(running: Running) -> Iterator[Any]:
    with triton_http.InferenceServerClient(running.url.removeprefix("http://")) as client:
        yield client


@pytest.fixture(scope="module")
def grpc(running: Running, grpc_port: int) -> Iterator[Any]:
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{grpc_port}") as client:
        yield client


def _inputs(client: Any, **options: Any) -> list[Any]:
    made = []
    for name, (datatype, values) in ROWS.items():
        tensor = client.InferInput(name, list(values.shape), datatype)
        tensor.set_data_from_numpy(values, **options)
        made.append(tensor)
    return made


def _expected(running: Running, name: str) -> dict[str, Any]:
    data = {"colour": ["blue", "3"], "weight": [0.5, None], "count": [3, 40], "flag": [True, False]}
    inputs = [{"name": n, "shape": [2], "datatype": ROWS[n][0], "data": values} for n, values in data.items()]
    response = httpx.post(f"{running.url}/v2/models/{name}/infer", json={"inputs": inputs}, trust_env=False)
    return {output["name"]: output["data"] for output in response.json()["outputs"]}


@pytest.mark.parametrize("binary", [False, True], ids=["JSON", "binary"])
@pytest.mark.parametrize("name", ["small", "sorted", "priced"])
def test_tritons_http_client_gets_the_same_answers_in_either_form(
    running: Running, http: Any, name: str, binary: bool
) -> None:
    expected = _expected(running, name)
    inputs = _inputs(triton_http, binary_data=True)
    outputs = [triton_http.InferRequestedOutput(output, binary_data=binary) for output in expected]
    result = http.infer(name, inputs, outputs=outputs, request_id="mine")
    assert result.get_response()["id"] == "mine"
    for output, values in expected.items():
        _same(result.as_numpy(output), values)


@pytest.mark.parametrize("name", ["small", "sorted", "priced"])
def test_tritons_grpc_client_gets_the_same_answers(running: Running, grpc: Any, name: str) -> None:
    expected = _expected(running, name)
    result = grpc.infer(name, _inputs(triton_grpc), request_id="mine", model_version="1")
    assert result.get_response().id == "mine"
    for output, values in expected.items():
        _same(result.as_numpy(output), values)


def _same(found: np.ndarray, expected: list[Any]) -> None:
    if isinstance(expected[0], str):
        assert [value.decode() if isinstance(value, bytes) else value for value in found.tolist()] == expected
    else:
        assert found.astype(np.float32).tolist() == np.array(expected, np.float32).tolist()


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_tritons_clients_find_server_models_and_repository(kind: str, request: pytest.FixtureRequest) -> None:
    client, words = request.getfixturevalue(kind), {} if kind == "http" else {"as_json": True}
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("small", "1")
    assert client.get_server_metadata(**words)["name"] == "raymlops"
    metadata = client.get_model_metadata("small", **words)
    assert [tensor["name"] for tensor in metadata["inputs"]] == [*ROWS]
    found = client.get_model_repository_index(**words)
    listed = found if kind == "http" else found["models"]
    assert {(model["name"], model["state"]) for model in listed} == {
        (n, "READY") for n in ("small", "sorted", "priced")
    }


def _output(name: str) -> Any:
    return triton_grpc.InferRequestedOutput(name)


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        (lambda: {"model_name": "smal"}, "NOT_FOUND", "did you mean 'small'"),
        (lambda: {"model_name": "small", "model_version": "9"}, "NOT_FOUND", "served is 1"),
        (
            lambda: {"model_name": "small", "outputs": [triton_grpc.InferRequestedOutput("p")]},
            "INVALID_ARGUMENT",
            "'p'",
        ),
        (lambda: {"model_name": "small", "inputs": _inputs(triton_grpc)[:2]}, "INVALID_ARGUMENT", "is missing"),
    ],
    ids=["model", "version", "output", "column"],
)
def test_bad_input_over_grpc_is_a_status_that_names_it(
    grpc: Any, change: Callable[[], dict[str, Any]], status: str, text: str
) -> None:
    with pytest.raises(triton_grpc.InferenceServerException) as caught:
        grpc.infer(**({"inputs": _inputs(triton_grpc)} | change()))
    assert caught.value.status() == f"StatusCode.{status}"
    assert text in caught.value.message()


def test_models_are_not_changed_by_callers(grpc: Any) -> None:
    with pytest.raises(triton_grpc.InferenceServerException, match="raymlops serve"):
        grpc.unload_model("small")


def _connected(running: Running) -> socket.socket:
    return socket.create_connection(running.supervisor.address, timeout=10)


def test_callers_who_send_half_a_request_hurt_nobody(running: Running, http: Any) -> None:
    halves = [b"", b"POST /v2/mo", b"POST /v2/models/small/infer HTTP/1.1\r\nhost: a\r\n",
              b"POST /v2/models/small/infer HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{"]  # fmt: skip
    callers = [_connected(running) for _ in range(500)]
    for number, caller in enumerate(callers):
        caller.sendall(halves[number % len(halves)])
    start = time.monotonic()
    for _ in range(50):
        assert http.is_model_ready("small")
    assert time.monotonic() - start < 10
    for caller in callers:
        caller.close()
    assert http.is_model_ready("small")


@pytest.mark.parametrize(
    "half", [b"", b"GET /v2 HT", b"POST /v2/repository/index HTTP/1.1\r\ncontent-length: 9\r\n\r\n{"]
)
def test_what_does_not_come_whole_in_time_gets_a_408(half: bytes) -> None:
    async def ask() -> tuple[bytes, int]:
        server = uvicorn.Server(
            uvicorn.Config(build(Models()), http=Patient, lifespan="off", log_config=None, port=free_port())
        )
        serving = asyncio.create_task(server.serve())
        patience = asyncio.create_task(look_after(server.server_state.connections, patience_s=0.2))
        while not server.started:
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.config.port)
        writer.write(half)
        answer = await asyncio.wait_for(reader.read(), 10)
        left = len(server.server_state.connections)
        patience.cancel()
        server.should_exit = True
        await serving
        return answer, left

    answer, left = asyncio.run(ask())
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert answer.endswith(b'{"error":"request: did not come within 0.2 s"}')
    assert left == 0


def test_a_head_without_an_end_is_refused(running: Running) -> None:
    with _connected(running) as caller:
        caller.sendall(b"GET /v2 HTTP/1.1\r\nhost: a\r\n")
        answer = b""
        try:
            for _ in range(100):
                caller.sendall(b"x-more: " + b"a" * 10_000 + b"\r\n")
            answer = caller.recv(1_000)
        except (ConnectionError, TimeoutError):
            pass
        assert answer == b"" or answer.startswith(b"HTTP/1.1 431")
    assert httpx.get(f"{running.url}/v2/health/live", trust_env=False).status_code == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GARBAGE\r\n\r\n", b"400"),
        (b"GET /v2 HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n", b"400"),
        (b"POST /v2/models/small/infer HTTP/1.1\r\nhost: a\r\ncontent-length: 999999999999\r\n\r\n", b"413"),
        (b"POST /v2/models/small/infer HTTP/1.1\r\nhost: a\r\ncontent-encoding: gzip\r\ncontent-length: 1\r\n\r\na",
         b"415"),
        (b"POST /v2/models/small/infer HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
         b"400"),
    ],
    ids=["no HTTP", "negative length", "huge length", "packed", "chunks"],
)  # fmt: skip
def test_what_is_no_request_gets_a_4xx(running: Running, sent: bytes, status: bytes) -> None:
    with _connected(running) as caller:
        caller.sendall(sent)
        assert caller.recv(1_000).split(b" ")[1] == status


def test_traces_are_carried_through_and_counters_count(running: Running) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with httpx.Client(base_url=running.url, trust_env=False) as client:
        assert client.get("/v2/models/small", headers={"traceparent": trace}).headers["traceparent"] == trace
        before = _counted(client, 'raymlops_requests_total{model="priced",status="400",version="1"}')
        assert client.post("/v2/models/priced/infer", content=b"{").status_code == 400
        assert _counted(client, 'raymlops_requests_total{model="priced",status="400",version="1"}') == before + 1
        body = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": [1, 0.5, 3, 1]}]}
        assert client.post("/v2/models/small/infer", json=body).status_code == 200
        assert _counted(client, 'raymlops_batch_rows_count{model="small",version="1"}') > 0


def _counted(client: httpx.Client, sample: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(sample)), 0.0)


def test_requests_that_are_computed_together_get_their_own_answers(running: Running, tmp_path: Path) -> None:
    url, rows = f"{running.url}/v2/models/small/infer", np.random.default_rng(0).normal(size=(60, 4))
    rows[:, 0], rows[:, 2:] = 1, np.abs(np.round(rows[:, 2:]))
    rows[:, 3] %= 2
    bodies = [{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": [*row]}]} for row in rows]
    many = {"inputs": [{"name": "x", "shape": [60, 4], "datatype": "FP64", "data": rows.ravel().tolist()}]}
    expected = httpx.post(url, json=many, trust_env=False).json()["outputs"][0]["data"]

    with ThreadPoolExecutor(12) as pool, httpx.Client(trust_env=False) as client:
        found = [r.json()["outputs"][0]["data"][0] for r in pool.map(lambda b: client.post(url, json=b), bodies)]
    assert found == expected
