"""The endpoint's application, asked over ASGI without a server and without Ray."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import orjson
import pyarrow as pa
import pytest

from raymlops.contract import answers, encode
from raymlops.serve.app import build
from raymlops.serve.models import Models, load
from raymlops.values import Float32

# As tests/serve/conftest.py makes it: colour (blue, green, 3; nullable), weight (nullable, from -1000),
# count (whole, never missing), flag (boolean).
GOOD: dict[str, dict[str, Any]] = {
    "colour": {"name": "colour", "shape": [2], "datatype": "BYTES", "data": ["blue", None]},
    "weight": {"name": "weight", "shape": [2], "datatype": "FP64", "data": [0.5, None]},
    "count": {"name": "count", "shape": [2, 1], "datatype": "INT64", "data": [3, 40]},
    "flag": {"name": "flag", "shape": [2], "datatype": "BOOL", "data": [True, False]},
}
MATRIX = {"name": "x", "shape": [2, 4], "datatype": "FP64", "data": [1, 0.5, 3, 1, None, None, 40, 0]}

Ask = Callable[..., httpx.Response]


@pytest.fixture
def ask(models: Models) -> Ask:
    return asking(build(models, max_bytes=100_000))


def asking(app: Any) -> Ask:
    def ask(method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        content = body if body is None or isinstance(body, bytes) else orjson.dumps(body)

        async def call() -> httpx.Response:
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
                return await client.request(method, path, content=content, **options)

        return asyncio.run(call())

    return ask


def inputs(**changed: dict[str, Any] | None) -> dict[str, Any]:
    tensors = {name: {**tensor, **(changed.get(name, {}) or {})} for name, tensor in GOOD.items()}
    return {"inputs": [tensor for name, tensor in tensors.items() if changed.get(name, {}) is not None]}


def test_the_answer_is_the_models_own_answer_to_the_same_rows(ask: Ask, models: Models) -> None:
    model = models.loaded["small"]
    rows = pa.table({"colour": ["blue", None], "weight": [0.5, None], "count": [3, 40], "flag": [True, False]})
    expected = model.predictor.predict(encode(model.contract, {n: rows.column(n) for n in rows.column_names}).x)

    body = ask("POST", "/v2/models/small/infer", inputs()).json()

    assert body["model_name"] == "small"
    assert body["model_version"] == "1"
    assert body["parameters"] == {"variant": "champion", "engine": "native"}
    assert [(o["name"], o["datatype"], o["shape"]) for o in body["outputs"]] == [("probability", "FP32", [2])]
    assert np.array(body["outputs"][0]["data"], dtype=np.float32).tobytes() == expected.tobytes()


def test_columns_and_matrix_give_the_same_bytes(ask: Ask) -> None:
    for name in ("small", "sorted", "priced"):
        given = [{**inputs(), "id": "a"}, {"inputs": [MATRIX], "id": "a"}]
        nested = {**MATRIX, "data": [[1, 0.5, 3, 1], [None, None, 40, 0]]}
        given.append({"inputs": [nested], "id": "a"})
        replies = [ask("POST", f"/v2/models/{name}/versions/1/infer", body) for body in given]
        assert {reply.status_code for reply in replies} == {200}
        assert len({reply.content for reply in replies}) == 1, name


def test_a_multiclass_answer_names_the_class_and_gives_each_probability(ask: Ask, models: Models) -> None:
    outputs = ask("POST", "/v2/models/sorted/infer", inputs()).json()["outputs"]
    assert [(o["name"], o["datatype"]) for o in outputs] == [
        ("prediction", "BYTES"),
        ("probability_high", "FP32"),
        ("probability_low", "FP32"),
        ("probability_middle", "FP32"),
    ]
    y = np.array([o["data"] for o in outputs[1:]], dtype=np.float32).T
    assert outputs[0]["data"] == answers(models.loaded["sorted"].contract.label, y)["prediction"].tolist()
    assert y.sum(axis=1) == pytest.approx([1, 1])


def test_only_the_requested_outputs_come_in_the_order_asked(ask: Ask) -> None:
    wanted = [{"name": "probability_low"}, {"name": "prediction"}]
    outputs = ask("POST", "/v2/models/sorted/infer", {**inputs(), "outputs": wanted}).json()["outputs"]
    assert [o["name"] for o in outputs] == ["probability_low", "prediction"]


def test_metadata_says_what_to_send_and_what_comes_back(ask: Ask) -> None:
    assert ask("GET", "/v2").json()["name"] == "raymlops"
    body = ask("GET", "/v2/models/small").json()
    assert body["versions"] == ["1"]
    assert [(t["name"], t["datatype"], t["shape"]) for t in body["inputs"]] == [
        ("colour", "BYTES", [-1]),
        ("weight", "FP64", [-1]),
        ("count", "INT64", [-1]),
        ("flag", "BOOL", [-1]),
    ]
    assert body["outputs"] == [{"name": "probability", "datatype": "FP32", "shape": [-1]}]


def test_ready_names_the_version_and_its_bytes(ask: Ask, models: Models) -> None:
    body = ask("GET", "/v2/models/small/versions/1/ready").json()
    assert body["ready"] is True
    assert body["parameters"]["digest"] == models.loaded["small"].wanted.digest
    assert ask("GET", "/v2/health/ready").status_code == 200
    assert ask("GET", "/v2/health/live").status_code == 200


def test_a_server_without_models_lives_but_is_not_ready() -> None:
    ask = asking(build(Models()))
    assert ask("GET", "/v2/health/live").status_code == 200
    assert ask("GET", "/v2/health/ready").status_code == 503


def test_no_rows_give_no_answers(ask: Ask) -> None:
    empty = {name: {"shape": [0], "data": []} for name in GOOD}
    body = ask("POST", "/v2/models/sorted/infer", inputs(**empty)).json()
    assert [o["data"] for o in body["outputs"]] == [[], [], [], []]


REFUSED: dict[str, tuple[Any, int, str]] = {
    "no body": (b"", 400, "body: is not JSON"),
    "not JSON": (b"{", 400, "body: is not JSON"),
    "not UTF-8": (b'{"inputs": "\xff"}', 400, "body: is not JSON"),
    "not an object": (b"[1]", 400, "body: [1] given"),
    "NaN": (orjson.dumps(inputs()).replace(b"0.5", b"NaN"), 400, "body: is not JSON"),
    "Infinity": (orjson.dumps(inputs()).replace(b"0.5", b"Infinity"), 400, "body: is not JSON"),
    "1e400": (orjson.dumps(inputs()).replace(b"0.5", b"1e400"), 400, "infinity"),
    "lone surrogate": (orjson.dumps(inputs()).replace(b"blue", b"\\ud800"), 400, "body: is not JSON"),
    "deep nesting": (b'{"inputs":' + b"[" * 20_000 + b"]" * 20_000 + b"}", 400, "body: is not JSON"),
    "nested elements": (inputs(weight={"data": [0.5, [[[1]]]]}), 400, "inputs[1].data[1]"),
    "no inputs": ({"inputs": []}, 400, "inputs: "),
    "unknown key": ({**inputs(), "inptus": 1}, 400, "inptus: unknown key"),
    "unknown key of a tensor": (inputs(weight={"dtype": 1}), 400, "inputs[1].dtype: unknown key"),
    "data missing": (
        {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32"}]},
        400,
        "inputs[0].data: nothing given",
    ),
    "shape against data": (inputs(count={"shape": [3]}), 400, "inputs[2].shape: [3] needs 3 elements, data has 2"),
    "shape of a matrix": ({"inputs": [{**MATRIX, "shape": [4, 2]}]}, 400, "inputs[0].shape: [4, 2] given"),
    "three dimensions": (inputs(weight={"shape": [2, 1, 1]}), 400, "inputs[1].shape"),
    "negative dimension": (inputs(weight={"shape": [-2]}), 400, "inputs[1].shape"),
    "huge dimensions": (inputs(weight={"shape": [2**62, 2**62]}), 400, "inputs[1].shape"),
    "dimension over 2^63": (inputs(weight={"shape": [2**63]}), 400, "inputs[1].shape"),
    "nothing of a huge dimension": (inputs(weight={"shape": [0, 2**63], "data": []}), 400, "whole numbers"),
    "many dimensions": (inputs(weight={"shape": [2**62] * 2000}), 400, "inputs[1].shape"),
    "boolean dimension": (inputs(weight={"shape": [True]}), 400, "inputs[1].shape"),
    "unknown datatype": (inputs(weight={"datatype": "FP128"}), 400, "inputs[1].datatype: 'FP128'"),
    "datatype of another kind": (inputs(weight={"datatype": ["FP64"]}), 400, "inputs[1].datatype"),
    "text among numbers": (inputs(weight={"data": [0.5, "1"]}), 400, "inputs[1].data[1]: '1' given; FP64 needs"),
    "boolean among numbers": (inputs(weight={"data": [True, 1]}), 400, "inputs[1].data[0]: True"),
    "fraction for an integer": (inputs(count={"data": [3, 4.5]}), 400, "inputs[2].data[1]: 4.5"),
    "2^63": (inputs(count={"data": [3, 2**63]}), 400, "inputs[2].data[1]: 9223372036854775808 given; is out of range"),
    "2^64": (orjson.dumps(inputs()).replace(b"40", b"18446744073709551616"), 400, "inputs[2].data[1]"),
    "over FP32": (inputs(weight={"datatype": "FP32", "data": [1e39, 0]}), 400, "inputs[1].data[0]: 1e+39"),
    "names twice": ({"inputs": [GOOD["count"], GOOD["count"]]}, 400, "inputs[1].name: 'count' is given twice"),
    "unknown feature": ({"inputs": [{**GOOD["count"], "name": "cuont"}]}, 400, "did you mean 'count'?"),
    "unknown output": ({**inputs(), "outputs": [{"name": "proba"}]}, 400, "outputs[0].name: unknown output 'proba'"),
    "nested parameter": ({**inputs(), "parameters": {"a": [1]}}, 400, "parameters.a"),
    "id of another kind": ({**inputs(), "id": 7}, 400, "id: 7"),
    "missing column": (inputs(count=None), 422, "is missing"),
    "text for a number": (inputs(weight={"datatype": "BYTES", "data": ["1", "2"]}), 422, "number needed"),
    "unknown category": (inputs(colour={"data": ["blue", "mauve"]}), 422, "must be one of 3, blue, green"),
    "null where not allowed": (inputs(count={"data": [3, None]}), 422, "must not be missing"),
    "under the minimum": (inputs(weight={"data": [-1001, 0]}), 422, "must be at least -1000"),
    "different lengths": (inputs(count={"shape": [1], "data": [3]}), 422, "different numbers of rows"),
    "over 32 bits": (inputs(weight={"data": [1e300, 0]}), 422, "must be finite, 1e+300"),
    "huge number as a category": (inputs(colour={"datatype": "FP64", "data": [1e300, 1]}), 422, ""),
    "index of no category": ({"inputs": [{**MATRIX, "data": [9, 0, 3, 1, 0, 0, 40, 0]}]}, 422, "index 9 of 3"),
    "half an index": ({"inputs": [{**MATRIX, "data": [0.5, 0, 3, 1, 0, 0, 40, 0]}]}, 422, "index 0.5 of 3"),
    "half a count": ({"inputs": [{**MATRIX, "data": [0, 0, 3.5, 1, 0, 0, 40, 0]}]}, 422, "must be a whole number"),
    "two flags": ({"inputs": [{**MATRIX, "data": [0, 0, 3, 2, 0, 0, 40, 0]}]}, 422, "must be true or false"),
    "too many rows": ({"inputs": [{**GOOD["count"], "shape": [101], "data": [1] * 101}]}, 413, "at most 100"),
    "too many bytes": (b" " * 100_001, 413, "100000 bytes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_gets_a_4xx_that_names_the_field_and_the_rule(case: str, ask: Ask) -> None:
    body, status, text = REFUSED[case]
    response = ask("POST", "/v2/models/small/infer", body)
    assert (response.status_code, text in response.json()["error"]) == (status, True), response.text
    assert len(response.content) < 5_000
    assert response.headers["X-Request-Id"]


def test_violations_are_listed_with_row_column_rule_and_value_and_counted(ask: Ask) -> None:
    n = 30
    tensors = {name: {"shape": [n], "data": [tensor["data"][0]] * n} for name, tensor in GOOD.items()}
    tensors["colour"]["data"] = ["mauve"] * n
    body = ask("POST", "/v2/models/small/infer", inputs(**tensors)).json()
    assert body["count"] == n
    assert len(body["problems"]) == 20
    assert body["problems"][1] == {
        "row": 1,
        "column": "colour",
        "rule": "must be one of 3, blue, green",
        "value": "'mauve'",
    }


def test_a_missing_column_is_a_problem_of_no_row(ask: Ask) -> None:
    problem = ask("POST", "/v2/models/small/infer", inputs(count=None)).json()["problems"][0]
    assert (problem["row"], problem["column"]) == (None, "count")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/smal", 404),
        ("GET", "/v2/models/small/versions/2", 404),
        ("GET", "/v2/models/small/versions/2/ready", 404),
        ("POST", "/v2/models/none/infer", 404),
        ("POST", "/v2/models/small/versions/x/infer", 404),
        ("GET", "/nothing", 404),
        ("GET", "/v2/models/small/infer", 405),
        ("POST", "/v2", 405),
    ],
)
def test_what_is_not_there_is_said_in_json(method: str, path: str, status: int, ask: Ask) -> None:
    response = ask(method, path, inputs() if method == "POST" else None)
    assert response.status_code == status
    assert response.json()["error"]


def test_the_requests_id_is_echoed_or_made(ask: Ask) -> None:
    path = "/v2/models/small/infer"
    sent = ask("POST", path, {**inputs(), "id": "mine"})
    assert (sent.json()["id"], sent.headers["X-Request-Id"]) == ("mine", "mine")
    headed = ask("POST", path, inputs(), headers={"X-Request-Id": "theirs"})
    assert (headed.json()["id"], headed.headers["X-Request-Id"]) == ("theirs", "theirs")
    made = ask("POST", path, inputs())
    assert made.json()["id"] == made.headers["X-Request-Id"] != ""


def test_an_id_cannot_add_a_header(ask: Ask) -> None:
    response = ask("POST", "/v2/models/small/infer", {**inputs(), "id": "a\r\nSet-Cookie: b"})
    assert response.status_code == 200
    assert "Set-Cookie" not in response.headers
    assert "\n" not in response.headers["X-Request-Id"]


def test_with_keys_everything_but_health_needs_one(models: Models) -> None:
    ask = asking(build(models, keys=frozenset({"first-key", "second-key"})))
    for path in ("/v2", "/v2/models/small", "/v2/models/small/ready", "/v2/models/unknown"):
        assert ask("GET", path).status_code == 401
    for value in ("Bearer wrong", "Bearer ", "first-key", "Basic first-key", "Bearer first-keyx", "Bearer \xe9"):
        response = ask("POST", "/v2/models/small/infer", inputs(), headers={"Authorization": value.encode("latin-1")})
        assert response.status_code == 401, value
        assert response.headers["WWW-Authenticate"] == "Bearer"
    for key in ("first-key", "second-key"):
        headers = {"Authorization": f"Bearer {key}"}
        assert ask("POST", "/v2/models/small/infer", inputs(), headers=headers).status_code == 200
    assert ask("GET", "/v2/health/live").status_code == 200
    assert ask("GET", "/v2/health/ready").status_code == 200


class _Broken:
    """An engine that answers no number, or fails."""

    def __init__(self, *, raises: bool) -> None:
        self._raises = raises

    def predict(self, x: Float32) -> Float32:
        if self._raises:
            raise RuntimeError("secret of the engine")
        return np.full(len(x), np.nan, dtype=np.float32)


@pytest.mark.parametrize("raises", [True, False])
def test_a_fault_of_the_engine_is_a_500_in_json_without_nan(raises: bool, models: Models) -> None:
    from dataclasses import replace

    broken = replace(models.loaded["small"], predictor=_Broken(raises=raises))
    response = asking(build(Models(loaded={"small": broken})))("POST", "/v2/models/small/infer", inputs())
    assert response.status_code == 500
    assert response.json()["error"]
    assert "secret" not in response.text
    assert response.headers["X-Request-Id"]


def test_a_large_body_is_answered_as_a_small_one(make: Any) -> None:
    n = 2_000
    made = make(max_rows=n)
    ask = asking(build(Models(loaded={"small": load(made.wanted)})))
    tensors = {name: {"shape": [n], "data": tensor["data"] * (n // 2)} for name, tensor in GOOD.items()}
    large = ask("POST", "/v2/models/small/infer", inputs(**tensors)).json()["outputs"][0]["data"]
    small = ask("POST", "/v2/models/small/infer", inputs()).json()["outputs"][0]["data"]
    assert large == small * (n // 2)
