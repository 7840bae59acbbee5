"""The Open Inference Protocol v2 over HTTP: bodies in, values out, and back. Knows nothing of sockets or models.

A body is JSON; or, by the binary tensor data extension, JSON and behind it the bytes of the tensors whose parameter
`binary_data_size` says how many, and the header `Inference-Header-Content-Length` gives the length of the JSON. What
is malformed raises SpecError with every problem as `inputs[1].shape: what was given, what is allowed`. A key that the
protocol does not know is a problem too; of a key given twice the last counts.
"""

from collections.abc import Callable
from itertools import chain
from math import prod
from typing import Any

import orjson

from raymlops.codec.oip import InferRequest, InferResponse, Tensor
from raymlops.codec.oip_checks import check, gather, head_problems, parameters_of, requested, text_of, unknown
from raymlops.codec.oip_elements import from_binary, from_json, is_float, shown, to_binary, to_json
from raymlops.errors import DataError, SpecError

__all__ = ["parse_request", "parse_response", "write_request", "write_response"]

# KServe's client sends the model's name along, and Triton's own examples do; over HTTP the address decides.
_REQUEST = frozenset({"id", "parameters", "inputs", "outputs", "model_name", "model_version"})
_RESPONSE = frozenset({"id", "parameters", "outputs", "model_name", "model_version"})
_TENSOR = frozenset({"name", "shape", "datatype", "data", "parameters"})


def parse_request(body: bytes, header_length: int | str | None = None) -> InferRequest:
    """Return the request in a body; raise SpecError with up to 20 problems, each with its place.

    `header_length` is the value of the header `Inference-Header-Content-Length`, None without one.

    >>> request = parse_request(b'{"inputs": [{"name": "a", "shape": [2], "datatype": "FP32", "data": [1, null]}]}')
    >>> request.inputs[0].data.to_pylist()
    [1.0, None]
    """
    header, rest = _split(body, header_length)
    document = _document(header, known=_REQUEST)
    problems: list[str] = []
    if not document.get("inputs"):
        problems.append(f"inputs: {shown(document.get('inputs'))} given; a list of at least one tensor is needed")
    inputs = _tensors(document, "inputs", rest, problems)
    outputs, output_parameters = requested(document.get("outputs"), problems)
    request = InferRequest(
        inputs=inputs,
        outputs=outputs,
        id=text_of(document.get("id"), "id", problems),
        parameters=parameters_of(document.get("parameters"), "parameters", problems, flag="binary_data_output"),
        output_parameters=output_parameters,
        model_name=text_of(document.get("model_name"), "model_name", problems) or "",
        model_version=text_of(document.get("model_version"), "model_version", problems) or "",
    )
    check(problems)
    return request


def parse_response(body: bytes, header_length: int | str | None = None) -> InferResponse:
    """Return the response in a body; raise SpecError as `parse_request` does."""
    header, rest = _split(body, header_length)
    document = _document(header, known=_RESPONSE)
    problems: list[str] = []
    response = InferResponse(
        model_name=text_of(document.get("model_name"), "model_name", problems) or "",
        model_version=text_of(document.get("model_version"), "model_version", problems) or "",
        id=text_of(document.get("id"), "id", problems) or "",
        outputs=_tensors(document, "outputs", rest, problems),
        parameters=parameters_of(document.get("parameters"), "parameters", problems),
    )
    check(problems)
    return response


def _split(body: bytes, header_length: int | str | None) -> tuple[bytes, memoryview | None]:
    """Return the JSON of a body, and the binary data behind it, None without the header."""
    if header_length is None:
        return body, None
    text = str(header_length)
    length = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
    if not 0 <= length <= len(body):
        raise SpecError(
            f"Inference-Header-Content-Length: {text[:60]!r} given; the length of the JSON is needed, "
            f"from 0 to the {len(body)} bytes of the body"
        )
    return body[:length], memoryview(body)[length:]


def _document(header: bytes, *, known: frozenset[str]) -> dict[str, Any]:
    try:
        document = orjson.loads(header)
    except orjson.JSONDecodeError as error:
        raise SpecError(f"body: is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise SpecError(f"body: {shown(document)} given; an object with {', '.join(sorted(known))} is needed")
    check(unknown(document, known, ""))
    return document


def _tensors(document: dict[str, Any], place: str, rest: memoryview | None, problems: list[str]) -> tuple[Tensor, ...]:
    values = document.get(place) or []
    if not isinstance(values, list):
        problems.append(f"{place}: {shown(values)} given; a list of tensors is needed")
        return ()
    return gather(values, _blobs(values, place, rest), place, _tensor, problems)


def _blobs(values: list[Any], place: str, rest: memoryview | None) -> list[memoryview | None]:
    """Return the binary data of each tensor, None for one that has none; together they are all that is there."""
    found: list[memoryview | None] = []
    for index, value in enumerate(values):
        parameters = value.get("parameters") if isinstance(value, dict) else None
        if not isinstance(parameters, dict) or "binary_data_size" not in parameters:
            found.append(None)
            continue
        size = parameters["binary_data_size"]
        here = f"{place}[{index}].parameters.binary_data_size: {shown(size)} given"
        if type(size) is not int or size < 0:
            raise SpecError(f"{here}; a whole number of bytes is needed")
        if rest is None:
            raise SpecError(f"{here}; it needs the header Inference-Header-Content-Length")
        if size > len(rest):
            raise SpecError(f"{here}; {len(rest)} bytes are left in the body")
        found.append(rest[:size])
        rest = rest[size:]
    if rest:
        raise SpecError(f"body: {len(rest)} bytes follow the last tensor; binary_data_size must account for every one")
    return found


def _tensor(value: Any, place: str, blob: memoryview | None) -> Tensor:
    if not isinstance(value, dict):
        raise SpecError(f"{place}: {shown(value)} given; an object with name, shape, datatype and data is needed")
    get: Callable[[str], Any] = value.get
    name, datatype, shape, data = get("name"), get("datatype"), get("shape"), get("data")
    problems = unknown(value, _TENSOR, f"{place}.") + head_problems(name, datatype, shape, place)
    parameters = parameters_of(get("parameters"), f"{place}.parameters", problems)
    if blob is None and not isinstance(data, list):
        problems.append(f"{place}.data: {shown(data)} given; a list is needed")
    if blob is not None and data is not None:
        problems.append(f"{place}.data: is given beside binary_data_size; keep one")
    check(problems)
    if blob is not None:
        elements = from_binary(blob, datatype, prod(shape), f"{place}.data")
        parameters = {key: item for key, item in parameters.items() if key != "binary_data_size"}
    else:
        elements = from_json(_flat(data, shape, place), datatype, f"{place}.data")
    return Tensor(name=name, shape=tuple(shape), datatype=datatype, data=elements, parameters=parameters)


def _flat(data: list[Any], shape: list[int], place: str) -> list[Any]:
    """Return the elements of flat data as they are, of nested data row by row; nested data must have the shape."""
    flat = data
    for size in shape[1:] if data and isinstance(data[0], list) else ():
        wrong = next((i for i, part in enumerate(flat) if not isinstance(part, list) or len(part) != size), None)
        if wrong is not None:
            raise SpecError(f"{place}.data: {shown(flat[wrong])} given; shape {shape} needs lists of {size} there")
        flat = list(chain.from_iterable(flat))
    if len(flat) != prod(shape):
        raise SpecError(f"{place}.shape: {shape} needs {prod(shape)} elements, data has {len(flat)}")
    return flat


def write_request(request: InferRequest, *, binary: bool = False) -> tuple[bytes, int | None]:
    """Return the body of a request, and the length of its JSON where binary data stands behind it.

    In JSON a null or NaN is written as null, and an infinity raises DataError. With `binary` every tensor is binary
    but for one with a null that its datatype cannot express in bytes: that one stays JSON.
    """
    document: dict[str, Any] = {}
    if request.outputs is not None:
        given = request.output_parameters
        document["outputs"] = [
            {"name": name, "parameters": given[name]} if name in given else {"name": name} for name in request.outputs
        ]
    texts = {"id": request.id, "model_name": request.model_name or None, "model_version": request.model_version or None}
    document |= {key: text for key, text in texts.items() if text is not None}
    if request.parameters:
        document["parameters"] = request.parameters
    blobs: list[bytes] = []
    document["inputs"] = [
        _written(t, blobs if binary and (is_float(t.datatype) or not t.data.null_count) else None, missing=True)
        for t in request.inputs
    ]
    return _joined(document, blobs)


def write_response(
    response: InferResponse, *, binary: Callable[[str], bool] = lambda _: False
) -> tuple[bytes, int | None]:
    """Return the body of a response, and the length of its JSON where binary data stands behind it.

    `binary` says which outputs, by name, are binary: `InferRequest.wants_binary` of the request that is answered.
    Raise DataError rather than write a number that is not finite.
    """
    blobs: list[bytes] = []
    document = {
        "model_name": response.model_name,
        "model_version": response.model_version,
        "id": response.id,
        "parameters": response.parameters,
        "outputs": [_written(t, blobs if binary(t.name) else None, missing=False) for t in response.outputs],
    }
    return _joined(document, blobs)


def _written(value: Tensor, blobs: list[bytes] | None, *, missing: bool) -> dict[str, Any]:
    """Return a tensor as JSON; with `blobs` its data is added to them instead."""
    document: dict[str, Any] = {"name": value.name, "shape": value.shape, "datatype": value.datatype}
    if blobs is None:
        if value.parameters:
            document["parameters"] = value.parameters
        document["data"] = to_json(value, missing=missing)
    else:
        blobs.append(to_binary(value, missing=missing))
        document["parameters"] = {**value.parameters, "binary_data_size": len(blobs[-1])}
    return document


def _joined(document: dict[str, Any], blobs: list[bytes]) -> tuple[bytes, int | None]:
    try:
        header = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    except orjson.JSONEncodeError as error:
        raise DataError(f"body: cannot be written as JSON: {error}") from error
    return (b"".join([header, *blobs]), len(header)) if blobs else (header, None)
