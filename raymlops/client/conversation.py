"""What a client says to an endpoint and makes of its answers. Knows nothing of HTTP, gRPC, threads or event loops.

A conversation is a generator: it yields each `Call`, is sent the `Reply`, and returns its result. So `Client` and
`AsyncClient` share every decision and differ only in how they wait, and whatever carries calls can be asked the same.
"""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar
from uuid import uuid4

import numpy as np
import pyarrow as pa

from raymlops.client.rows import Rows, columns_of
from raymlops.codec import InferRequest, InferResponse, table_to_tensors
from raymlops.errors import Conflict, DataError, NotFound, RaymlopsError, SpecError, StageFailed, Unavailable
from raymlops.values import JsonValue

__all__ = [
    "Call",
    "Conversation",
    "Infer",
    "Known",
    "Metadata",
    "Prediction",
    "Problem",
    "Ready",
    "Reply",
    "Server",
    "metadata",
    "predict",
    "ready",
]

Result = TypeVar("Result")
Features: TypeAlias = dict[tuple[str, str | int | None], tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Ask what the server is and can do; the reply is what it says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """Ask whether a model answers; the reply is true or false."""

    name: str
    version: str | int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """Ask what a model takes and gives; the reply is what the server says."""

    name: str
    version: str | int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Infer:
    """Ask for answers; ``binary``: numbers may travel as bytes. The reply is an InferResponse."""

    name: str
    version: str | int | None
    request: InferRequest
    binary: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A refusal as a reply: the error that it stands for, the server's words, and what it says of single rows."""

    kind: type[RaymlopsError]
    text: str
    rows: Sequence[Mapping[str, Any]] = ()


Call: TypeAlias = Server | Ready | Metadata | Infer
Reply: TypeAlias = bool | dict[str, Any] | InferResponse | Problem


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


@dataclass(slots=True, kw_only=True)
class Known:
    """What a client has learned: the features of models asked before, and whether numbers may travel as bytes."""

    binary: bool | None
    features: Features = field(default_factory=dict)


def ready(name: str, version: str | int | None) -> Conversation[bool]:
    """Ask whether a model answers; an unknown one does not."""
    reply = yield Ready(name=name, version=version)
    if isinstance(reply, Problem) and reply.kind in (NotFound, Unavailable):
        return False
    return bool(_checked(reply, bool, "whether it is ready"))


def metadata(name: str, version: str | int | None) -> Conversation[dict[str, JsonValue]]:
    """Ask for the names, types and shapes of a model's inputs and outputs."""
    reply = yield Metadata(name=name, version=version)
    value: dict[str, JsonValue] = _checked(reply, dict, f"metadata of {name!r}")
    return value


def predict(
    name: str, rows: Rows, *, version: str | int | None, rows_a_request: int, known: Known
) -> Conversation[Prediction]:
    """Ask for the answers of rows, in requests of at most `rows_a_request` rows, in order.

    `known` is added to. All rows are answered by one version: when it changes in between, all are asked again, once,
    then Conflict.
    """
    if rows_a_request < 1:
        raise SpecError(f"rows_a_request: {rows_a_request!r} given; at least 1 is needed")
    if known.binary is None:
        said = _checked((yield Server()), dict, "metadata of the server")
        known.binary = "binary_tensor_data" in said.get("extensions", ())
    asked_before, features = (name, version) in known.features, known.features
    if not asked_before:
        features[name, version] = yield from _features(name, version)
    try:
        return (yield from _asked(name, rows, version, rows_a_request, features[name, version], known.binary))
    except Conflict:
        pass
    except (SpecError, DataError):
        # The model may have got other features since: only then is it worth asking again.
        fresh = yield from _features(name, version)
        if not asked_before or fresh == features[name, version]:
            raise
        features[name, version] = fresh
    return (yield from _asked(name, rows, version, rows_a_request, features[name, version], known.binary))


def _features(name: str, version: str | int | None) -> Conversation[tuple[str, ...]]:
    value: Any = yield from metadata(name, version)
    try:
        return tuple(str(tensor["name"]) for tensor in value["inputs"])
    except (KeyError, TypeError) as error:
        raise StageFailed(f"the endpoint's metadata of {name!r} has no inputs with names: {value!r:.200}") from error


def _asked(
    name: str, rows: Rows, version: str | int | None, rows_a_request: int, features: Sequence[str], binary: bool
) -> Conversation[Prediction]:
    table = columns_of(rows, features)
    if not table.num_columns:
        raise DataError(f"rows: none of the columns that {name!r} needs is there: {', '.join(features)}")
    request_id = uuid4().hex
    responses: list[InferResponse] = []
    for start in range(0, max(len(table), 1), rows_a_request):
        inputs = table_to_tensors(table.slice(start, rows_a_request), names=features)
        request = InferRequest(inputs=inputs, id=request_id, parameters={"binary_data_output": True} if binary else {})
        reply = yield Infer(name=name, version=version, request=request, binary=binary)
        responses.append(_checked(reply, InferResponse, "answer", first_row=start))
        if responses[-1].model_version != responses[0].model_version:
            raise Conflict(
                f"model {name!r} changed from version {responses[0].model_version} to {responses[-1].model_version} "
                "while the rows were answered; ask again, or name a version"
            )
    return _joined(responses)


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


def _checked(reply: Reply, wanted: type[Result], what: str, *, first_row: int = 0) -> Result:
    """Return the reply, or raise the error that it stands for; rows count from the first one that was asked about."""
    if isinstance(reply, Problem):
        if reply.rows and reply.kind is DataError:
            raise DataError(*(_of_a_row(problem, first_row) for problem in reply.rows))
        raise reply.kind(reply.text)
    if not isinstance(reply, wanted):
        raise StageFailed(f"the endpoint's {what} is not of the Open Inference Protocol: {reply!r:.200}")
    return reply


def _of_a_row(problem: Mapping[str, Any], first_row: int) -> str:
    row, column, value = (problem.get(key) for key in ("row", "column", "value"))
    place = [f"row {row + first_row}"] if isinstance(row, int) else []
    place += [f"column {column!r}"] if column is not None else []
    return f"{', '.join(place) or 'rows'}: {problem.get('rule')}" + (f", {value} given" if value is not None else "")
