"""What a client says to an endpoint and how it reads the answer. Knows nothing of sockets, threads or event loops.

A conversation is a generator: it yields each `Call`, is sent the `Reply`, and returns its result. So `Client` and
`AsyncClient` share every decision and differ only in how they wait.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote
from uuid import uuid4

import numpy as np
import orjson
import pyarrow as pa

from raymlops.client.rows import Rows, columns_of
from raymlops.codec import (
    InferRequest,
    InferResponse,
    parse_response,
    table_to_tensors,
    write_request,
)
from raymlops.errors import (
    Conflict,
    DataError,
    NotFound,
    RaymlopsError,
    SpecError,
    StageFailed,
    Unavailable,
)
from raymlops.values import JsonValue

__all__ = ["Call", "Conversation", "Features", "Prediction", "Reply", "metadata", "predict", "ready"]

Result = TypeVar("Result")
Features: TypeAlias = dict[tuple[str, str | int | None], tuple[str, ...]]
_ERRORS: dict[int, type[RaymlopsError]] = {404: NotFound, 409: Conflict, 422: DataError, 503: Unavailable}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request to send; ``body`` None is a GET."""

    path: str
    body: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Answers in the order of the rows: a name, then one value a row, float32 or text (object); and who gave them."""

    model_name: str
    model_version: str
    variant: str
    engine: str
    answers: dict[str, np.ndarray]
    id: str


Conversation: TypeAlias = Generator[Call, Reply, Result]


def ready(name: str, version: str | int | None) -> Conversation[bool]:
    """Ask whether a model answers; an unknown one does not."""
    reply = yield Call(path=f"{_path(name, version)}/ready")
    if reply.status in (404, 503):
        return False
    _check(reply, first_row=0)
    return True


def metadata(name: str, version: str | int | None) -> Conversation[dict[str, JsonValue]]:
    """Ask for the names, types and shapes of a model's inputs and outputs."""
    reply = yield Call(path=_path(name, version))
    _check(reply, first_row=0)
    value = _json(reply)
    if not isinstance(value, dict):
        raise StageFailed(f"the endpoint's metadata of {name!r} is not an object: {reply.body[:200]!r}")
    return value


def predict(
    name: str, rows: Rows, *, version: str | int | None, rows_a_request: int, known: Features
) -> Conversation[Prediction]:
    """Ask for the answers of rows, in requests of at most `rows_a_request` rows, in order.

    `known` holds the features of models asked before, and is added to. All rows are answered by one version: when
    it changes in between, all are asked again, once, then Conflict.
    """
    if rows_a_request < 1:
        raise SpecError(f"rows_a_request: {rows_a_request!r} given; at least 1 is needed")
    asked_before = (name, version) in known
    if not asked_before:
        known[name, version] = yield from _features(name, version)
    try:
        return (yield from _asked(name, rows, version, rows_a_request, known[name, version]))
    except Conflict:
        pass
    except (SpecError, DataError):
        # The model may have got other features since: only then is it worth asking again.
        fresh = yield from _features(name, version)
        if not asked_before or fresh == known[name, version]:
            raise
        known[name, version] = fresh
    return (yield from _asked(name, rows, version, rows_a_request, known[name, version]))


def _features(name: str, version: str | int | None) -> Conversation[tuple[str, ...]]:
    value: Any = yield from metadata(name, version)
    try:
        return tuple(str(tensor["name"]) for tensor in value["inputs"])
    except (KeyError, TypeError) as error:
        raise StageFailed(f"the endpoint's metadata of {name!r} has no inputs with names: {value!r:.200}") from error


def _asked(
    name: str, rows: Rows, version: str | int | None, rows_a_request: int, features: Sequence[str]
) -> Conversation[Prediction]:
    table = columns_of(rows, features)
    if not table.num_columns:
        raise DataError(f"rows: none of the columns that {name!r} needs is there: {', '.join(features)}")
    request_id = uuid4().hex
    responses: list[InferResponse] = []
    for start in range(0, max(len(table), 1), rows_a_request):
        inputs = table_to_tensors(table.slice(start, rows_a_request), names=features)
        body, _ = write_request(InferRequest(inputs=inputs, id=request_id))
        reply = yield Call(path=f"{_path(name, version)}/infer", body=body)
        _check(reply, first_row=start)
        responses.append(_response(reply))
        if responses[-1].model_version != responses[0].model_version:
            raise Conflict(
                f"model {name!r} changed from version {responses[0].model_version} to {responses[-1].model_version} "
                "while the rows were answered; ask again, or name a version"
            )
    return _joined(responses)


def _response(reply: Reply) -> InferResponse:
    try:
        return parse_response(reply.body)
    except SpecError as error:
        raise StageFailed(f"the endpoint's answer is not of the Open Inference Protocol: {error}") from error


def _joined(responses: Sequence[InferResponse]) -> Prediction:
    first = responses[0]
    columns = [{output.name: output.data for output in response.outputs} for response in responses]
    return Prediction(
        model_name=first.model_name,
        model_version=first.model_version,
        variant=str(first.parameters.get("variant", "")),
        engine=str(first.parameters.get("engine", "")),
        answers={name: pa.chunked_array([column[name] for column in columns]).to_numpy() for name in columns[0]},
        id=first.id,
    )


def _path(name: str, version: str | int | None) -> str:
    middle = f"/versions/{quote(str(version), safe='')}" if version is not None else ""
    return f"/v2/models/{quote(name, safe='')}{middle}"


def _check(reply: Reply, *, first_row: int) -> None:
    """Raise the error that a reply stands for; row numbers count from the first row that was asked about."""
    if reply.status < 400:
        return
    value = _json(reply)
    said = value if isinstance(value, dict) else {}
    text = str(said.get("error") or reply.body[:300].decode(errors="replace") or f"status {reply.status}")
    default: type[RaymlopsError] = SpecError if reply.status < 500 else StageFailed
    problems = said.get("problems")
    if reply.status == 422 and isinstance(problems, list) and problems:
        raise DataError(*(_problem(problem, first_row) for problem in problems))
    raise _ERRORS.get(reply.status, default)(text)


def _problem(problem: Any, first_row: int) -> str:
    row, column, value = (problem.get(key) for key in ("row", "column", "value"))
    place = [f"row {row + first_row}"] if isinstance(row, int) else []
    place += [f"column {column!r}"] if column is not None else []
    return f"{', '.join(place) or 'rows'}: {problem.get('rule')}" + (f", {value} given" if value is not None else "")


def _json(reply: Reply) -> JsonValue:
    try:
        value: JsonValue = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        return None
    return value
