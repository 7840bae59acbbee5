"""Every way to ask gives the same answers and the same errors: JSON, bytes and gRPC, blocking and asynchronous."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raymlops.client import AsyncClient, Client, Prediction
from raymlops.errors import DataError, NotFound, SpecError, Unavailable
from raymlops.serve.app import App, build
from raymlops.serve.endpoint import Endpoint
from raymlops.serve.metrics import Meter
from raymlops.serve.models import Models
from raymlops.serve.service import start
from tests.client.test_clients import MODEL, TABLE, answering

MODELS = Models(loaded={"sum": MODEL})
Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def grpc_port() -> Iterator[int]:
    """Serve the model over gRPC on loopback, in a thread."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    loop, ready = asyncio.new_event_loop(), threading.Event()

    async def serve() -> Any:
        endpoint = Endpoint(Meter())
        endpoint.serve(MODELS, frozenset({"right"}))
        server = await start(endpoint, host="127.0.0.1", port=port, max_bytes=2**24)
        ready.set()
        return server

    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(serve(), loop).result()
    assert ready.wait(10)
    yield port
    asyncio.run_coroutine_threadsafe(server.stop(0), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def _rest(binary: bool, *, wait: bool) -> Ask:
    def ask(method: str, *args: Any, key: str = "right", **given: Any) -> Any:
        app: App = build(MODELS, keys=frozenset({"right"}))
        if not wait:
            with Client("http://there", key=key, transport=answering(app), binary=binary) as ours:
                return getattr(ours, method)(*args, **given)

        async def asked() -> Any:
            transport = httpx.ASGITransport(app=app)
            async with AsyncClient("http://there", key=key, transport=transport, binary=binary) as ours:
                return await getattr(ours, method)(*args, **given)

        return asyncio.run(asked())

    return ask


def _rpc(port: int, *, wait: bool) -> Ask:
    def ask(method: str, *args: Any, key: str = "right", **given: Any) -> Any:
        if not wait:
            with Client(f"grpc://127.0.0.1:{port}", key=key) as ours:
                return getattr(ours, method)(*args, **given)

        async def asked() -> Any:
            async with AsyncClient(f"grpc://127.0.0.1:{port}", key=key) as ours:
                return await getattr(ours, method)(*args, **given)

        return asyncio.run(asked())

    return ask


@pytest.fixture(params=["JSON", "bytes", "gRPC", "JSON, awaited", "bytes, awaited", "gRPC, awaited"])
def ask(request: pytest.FixtureRequest, grpc_port: int) -> Ask:
    form, _, awaited = str(request.param).partition(", ")
    return _rpc(grpc_port, wait=bool(awaited)) if form == "gRPC" else _rest(form == "bytes", wait=bool(awaited))


def test_rows_get_the_same_answers(ask: Ask) -> None:
    rows = pa.table({"kind": ["a", "b", "a"], "extra": [1, 2, 3], "size": [1.0, None, 3.0]})
    made: Prediction = ask("predict", "sum", rows, rows_a_request=2)
    assert made.answers["prediction"].tolist() == [1.0, 1.0, 3.0]
    assert made.answers["prediction"].dtype == np.float32
    assert (made.model_name, made.model_version, made.variant, made.engine) == ("sum", "3", "champion", "native")


def test_whole_numbers_with_a_missing_one_are_answered(ask: Ask) -> None:
    made = ask("predict", "sum", pa.table({"kind": ["a", "a"], "size": pa.array([2, None], pa.int64())}))
    assert made.answers["prediction"].tolist() == [2.0, 0.0]


def test_a_refused_value_names_row_column_and_rule(ask: Ask) -> None:
    rows = pd.DataFrame({"size": [1.0] * 15 + [100.0], "kind": "a"})
    with pytest.raises(DataError, match=r"row 15, column 'size': must be at most 99, 100\.0"):
        ask("predict", "sum", rows, rows_a_request=10)


def test_a_model_that_is_not_there_is_not_found_and_not_ready(ask: Ask) -> None:
    assert ask("ready", "sum") is True
    assert ask("ready", "sum", version=3) is True
    assert ask("ready", "sum", version=4) is False
    assert ask("ready", "other") is False
    with pytest.raises(NotFound, match="'other': is not served"):
        ask("predict", "other", TABLE)


def test_a_wrong_key_is_refused(ask: Ask) -> None:
    with pytest.raises(SpecError, match="a key is needed"):
        ask("predict", "sum", TABLE, key="wrong")


def test_metadata_is_the_same(ask: Ask) -> None:
    told: Mapping[str, Any] = ask("metadata", "sum")
    assert told["versions"] == ["3"]
    assert [(one["name"], one["datatype"], one["shape"]) for one in told["inputs"]] == [
        ("size", "FP64", [-1]),
        ("kind", "BYTES", [-1]),
    ]


def test_numbers_travel_as_bytes_where_the_server_says_that_it_knows_them() -> None:
    seen: list[httpx.Request] = []
    with Client("http://there", transport=answering(build(MODELS), seen)) as ours:
        made = ours.predict("sum", TABLE)
        assert ours.predict("sum", TABLE).answers["prediction"].tolist() == made.answers["prediction"].tolist()
    assert [request.url.path for request in seen] == [
        "/v2",
        "/v2/models/sum",
        "/v2/models/sum/infer",
        "/v2/models/sum/infer",
    ]
    assert "inference-header-content-length" in seen[2].headers
    text = b'"kind","shape":[3],"datatype":"BYTES","data":["a","b",null]'
    assert text in seen[2].content, "a text with a null has no form in bytes"


def test_a_server_that_knows_no_bytes_is_asked_in_json() -> None:
    real, seen = answering(build(MODELS)), []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if request.url.path == "/v2":
            return httpx.Response(200, json={"name": "other", "version": "1", "extensions": []})
        return real.handle_request(request)

    with Client("http://there", transport=httpx.MockTransport(handle)) as ours:
        assert ours.predict("sum", TABLE).answers["prediction"].tolist() == [1.0, 1.0, 3.0]
    assert "inference-header-content-length" not in seen[-1].headers


def test_texts_with_a_missing_one_cannot_go_by_grpc_and_say_so(grpc_port: int) -> None:
    with (
        Client(f"grpc://127.0.0.1:{grpc_port}", key="right") as ours,
        pytest.raises(DataError, match="column 'kind': missing values of BYTES cannot go by gRPC; ask by http"),
    ):
        ours.predict("sum", TABLE)


def test_an_address_where_nobody_listens_is_unavailable() -> None:
    with Client("grpc://127.0.0.1:1", timeout_s=5) as ours, pytest.raises(Unavailable, match="cannot be reached"):
        ours.ready("sum")


def test_a_deadline_is_kept() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"grpc://127.0.0.1:{silent.getsockname()[1]}"
        with Client(url, timeout_s=0.5) as ours, pytest.raises(Unavailable, match=r"did not answer within 0\.5 s"):
            ours.ready("sum")


sizes = st.one_of(st.none(), st.floats(-99, 99, width=32), st.just(float("nan")))
kinds = st.one_of(st.none(), st.sampled_from(["a", "b"]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(sizes, kinds), min_size=1, max_size=20), st.sampled_from(["float32", "float64"]))
def test_bytes_and_json_give_equal_answers(rows: list[tuple[Any, Any]], kind: str) -> None:
    size, text = zip(*rows, strict=True)
    table = pa.table({"size": pa.array(size, getattr(pa, kind)()), "kind": pa.array(text, pa.string())})
    made = [_rest(binary, wait=False)("predict", "sum", table).answers["prediction"] for binary in (False, True)]
    assert np.array_equal(made[0], made[1])
