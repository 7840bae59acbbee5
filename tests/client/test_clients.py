"""The clients, over transports that answer in this process."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pytest

from raymlops.client import AsyncClient, Client, Prediction
from raymlops.contract import Contract, Feature, Label
from raymlops.errors import Conflict, DataError, NotFound, RaymlopsError, SpecError, StageFailed, Unavailable
from raymlops.serve.app import build
from raymlops.serve.models import Model, Models, Wanted
from raymlops.values import Float32

CONTRACT = Contract(
    features=(
        Feature(name="size", type="number", nullable=True, maximum=99.0),
        Feature(name="kind", type="category", nullable=True, categories=("a", "b")),
    ),
    label=Label(name="y", task="regression"),
)


class Sum:
    """An engine that adds what is there: so every row can be told from its answer."""

    def predict(self, x: Float32) -> Float32:
        return np.asarray(np.nansum(x, axis=1), dtype=np.float32)


MODEL = Model(
    wanted=Wanted(name="sum", number=3, digest="d", path="", max_rows=1000),
    contract=CONTRACT,
    predictor=Sum(),
    engine="native",
)
TABLE = pa.table({"kind": ["a", "b", None], "extra": [1, 2, 3], "size": [1.0, None, 3.0]})
FORMS = {
    "table": TABLE,
    "frame": TABLE.to_pandas(),
    "dicts": [{"kind": "a", "size": 1, "extra": {}}, {"kind": "b", "size": float("nan")}, {"size": 3}],
}


def answering(app: Any, seen: list[httpx.Request] | None = None) -> httpx.MockTransport:
    """Answer each request by the application, as a server would."""

    def handle(request: httpx.Request) -> httpx.Response:
        if seen is not None:
            seen.append(request)

        async def ask() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app)) as http:
                response = await http.send(
                    httpx.Request(request.method, request.url, headers=request.headers, content=request.content)
                )
            return httpx.Response(response.status_code, headers=response.headers, content=response.content)

        return asyncio.run(ask())

    return httpx.MockTransport(handle)


def sync(handler: Callable[[httpx.Request], httpx.Response]) -> Client:
    return Client("http://there", transport=httpx.MockTransport(handler), binary=False)


def client(
    app: Any, seen: list[httpx.Request] | None = None, key: str | None = None, *, binary: bool | None = False
) -> Client:
    return Client("http://there", key=key, transport=answering(app, seen), binary=binary)


@pytest.fixture
def app() -> Any:
    return build(Models(loaded={"sum": MODEL}))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_rows_gets_the_same_answers(form: str, app: Any) -> None:
    with client(app) as ours:
        made = ours.predict("sum", FORMS[form])
    assert made.answers["prediction"].tolist() == [1.0, 1.0, 3.0]
    assert made.answers["prediction"].dtype == np.float32
    assert (made.model_name, made.model_version, made.variant, made.engine) == ("sum", "3", "champion", "native")
    assert made.id


def test_the_asynchronous_client_answers_as_the_other(app: Any) -> None:
    async def ask() -> tuple[Prediction, bool, Any]:
        async with AsyncClient("http://there", transport=httpx.ASGITransport(app=app)) as ours:
            return await ours.predict("sum", TABLE), await ours.ready("sum", version=4), await ours.metadata("sum")

    made, ready, metadata = asyncio.run(ask())
    assert made.answers["prediction"].tolist() == [1.0, 1.0, 3.0]
    assert ready is False
    assert metadata["versions"] == ["3"]


def test_many_rows_go_in_several_requests_and_come_back_in_order(app: Any) -> None:
    seen: list[httpx.Request] = []
    rows = pa.table({"size": np.arange(25) / 10, "kind": ["a"] * 25})
    with client(app, seen) as ours:
        made = ours.predict("sum", rows, rows_a_request=10)
    assert made.answers["prediction"].tolist() == np.float32(np.arange(25) / 10).tolist()
    assert [request.url.path.rsplit("/", 1)[1] for request in seen] == ["sum", "infer", "infer", "infer"]


def test_metadata_is_read_once_and_unknown_columns_are_not_sent(app: Any) -> None:
    seen: list[httpx.Request] = []
    with client(app, seen) as ours:
        ours.predict("sum", TABLE)
        ours.predict("sum", TABLE)
    assert [request.method for request in seen] == ["GET", "POST", "POST"]
    assert [tensor["name"] for tensor in orjson.loads(seen[1].content)["inputs"]] == ["size", "kind"]


def test_a_refused_value_names_its_row_among_all_rows(app: Any) -> None:
    rows = pd.DataFrame({"size": [1.0] * 15 + [100.0], "kind": "a"})
    with client(app) as ours, pytest.raises(DataError, match=r"row 15, column 'size': must be at most 99, 100\.0"):
        ours.predict("sum", rows, rows_a_request=10)


def test_a_model_that_got_other_features_is_asked_anew() -> None:
    wider = replace(CONTRACT, features=(*CONTRACT.features, Feature(name="extra", type="number", nullable=False)))
    old, new = build(Models(loaded={"sum": MODEL})), build(Models(loaded={"sum": replace(MODEL, contract=wider)}))
    transport = {"now": answering(old)}
    ours = sync(lambda request: transport["now"].handle_request(request))
    assert ours.predict("sum", TABLE).answers["prediction"].tolist() == [1.0, 1.0, 3.0]
    transport["now"] = answering(new)
    assert ours.predict("sum", TABLE).answers["prediction"].tolist() == [2.0, 3.0, 6.0]


def test_rows_are_answered_by_one_version_or_not_at_all() -> None:
    two = replace(MODEL, wanted=replace(MODEL.wanted, number=4))
    apps = [answering(build(Models(loaded={"sum": model}))) for model in (MODEL, two)]
    order = {"change": [0, 0, 1, 1, 1, 1, 1], "flutter": [0, 0, 1, 0, 1, 0, 1, 0]}

    def answered(which: list[int]) -> Prediction:
        turn = iter(which)
        return sync(lambda r: apps[next(turn)].handle_request(r)).predict("sum", TABLE, rows_a_request=1)

    assert answered(order["change"]).model_version == "4"
    with pytest.raises(Conflict, match="changed from version"):
        answered(order["flutter"])


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([{"size": 1}, 2], r"rows\[1\]: int given"),
        ("abc", "rows: str given"),
        (7, "rows: int given"),
        ([{"size": 1}, {"size": "two"}], "column 'size'"),
        ([{"kind": "\ud800"}], "column 'kind'"),
        ([{"other": 1}], "none of the columns"),
        (pa.table([[1.0], [2.0]], names=["size", "size"]), "column 'size': is there twice"),
        ([{"size": float("inf")}], "not finite"),
        ([{"size": {"a": 1}}], "column 'size': type struct"),
    ],
)
def test_rows_that_cannot_be_sent_are_refused_here(rows: Any, text: str, app: Any) -> None:
    with client(app) as ours, pytest.raises(DataError, match=text):
        ours.predict("sum", rows)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, SpecError), (401, SpecError), (404, NotFound), (413, SpecError), (422, DataError), (500, StageFailed)],
)
def test_a_refusal_is_the_matching_error_with_the_servers_words(status: int, kind: type[RaymlopsError]) -> None:
    ours = sync(lambda request: httpx.Response(status, json={"error": "what was wrong"}))
    with pytest.raises(kind, match="what was wrong"):
        ours.metadata("sum")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"outputs": 3}'])
def test_an_answer_that_is_not_of_the_protocol_is_said_to_be_none(body: bytes, app: Any) -> None:
    real = answering(app)
    ours = sync(lambda r: httpx.Response(200, content=body) if r.method == "POST" else real.handle_request(r))
    with pytest.raises(StageFailed, match="Open Inference Protocol"):
        ours.predict("sum", TABLE)


def test_a_connection_that_was_refused_and_a_503_are_tried_again(app: Any) -> None:
    real, tries = answering(app), []

    def handle(request: httpx.Request) -> httpx.Response:
        tries.append(request)
        if len(tries) == 1:
            raise httpx.ConnectError("refused")
        return httpx.Response(503) if len(tries) == 2 else real.handle_request(request)

    assert sync(handle).ready("sum") is True
    assert len(tries) == 3


def test_an_endpoint_that_stays_away_is_unavailable_and_what_was_sent_is_not_sent_again() -> None:
    tries = []

    def handle(request: httpx.Request) -> httpx.Response:
        tries.append(request)
        raise httpx.ReadTimeout("slow")

    with pytest.raises(Unavailable, match="did not answer within 30 s"):
        sync(handle).metadata("sum")
    assert len(tries) == 1
    with pytest.raises(Unavailable, match="cannot be reached"), Client("http://127.0.0.1:1") as ours:
        ours.metadata("sum")


def test_the_key_is_sent_and_a_wrong_one_is_refused() -> None:
    app = build(Models(loaded={"sum": MODEL}), keys=frozenset({"right"}))
    assert client(app, key="right").predict("sum", TABLE).model_version == "3"
    with pytest.raises(SpecError, match="a key is needed"):
        client(app, key="wrong").predict("sum", TABLE)
    with pytest.raises(SpecError, match="a key is needed"):
        client(app).ready("sum")


def test_names_are_quoted_in_the_path(app: Any) -> None:
    seen: list[httpx.Request] = []
    assert client(app, seen).ready("sum/../x", version="1?a") is False
    assert seen[0].url.raw_path == b"/v2/models/sum%2F..%2Fx/versions/1%3Fa/ready"
