"""The Open Inference Protocol v2 in JSON: requests and responses as values. Knows nothing of HTTP, models or contracts.

A tensor's elements are one flat Arrow array in row-major order, because Arrow has a null and an exact type, and the
contract reads it as it is. A JSON `null` is a null, and stands for a missing value. What is malformed raises
SpecError with every problem as `inputs[1].shape: what was given, what is allowed`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from math import prod
from typing import Any, Literal, TypeAlias

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from raymlops.errors import DataError, SpecError

__all__ = [
    "Datatype",
    "InferRequest",
    "InferResponse",
    "Parameters",
    "Tensor",
    "parse_request",
    "parse_response",
    "table_to_tensors",
    "tensor",
    "write_request",
    "write_response",
]

Datatype = Literal[
    "BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "FP32", "FP64", "BYTES"
]
Parameters: TypeAlias = Mapping[str, bool | int | float | str]

_ARROW: dict[str, pa.DataType] = {
    "BOOL": pa.bool_(),
    "INT8": pa.int8(),
    "INT16": pa.int16(),
    "INT32": pa.int32(),
    "INT64": pa.int64(),
    "UINT8": pa.uint8(),
    "UINT16": pa.uint16(),
    "UINT32": pa.uint32(),
    "UINT64": pa.uint64(),
    "FP32": pa.float32(),
    "FP64": pa.float64(),
    "BYTES": pa.string(),
}
_DATATYPE: dict[pa.DataType, Datatype] = {arrow: name for name, arrow in _ARROW.items()}  # type: ignore[misc]
_NONE = type(None)
_ELEMENTS: dict[str, tuple[set[type], str]] = {
    "BOOL": ({bool, _NONE}, "true, false"),
    "BYTES": ({str, _NONE}, "texts"),
    "I": ({int, _NONE}, "whole numbers"),
    "U": ({int, _NONE}, "whole numbers from 0 on"),
    "F": ({int, float, _NONE}, "numbers"),
}
_MOST_DIMENSIONS = 8
_MOST_PROBLEMS = 20
_MOST_ID = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A named array; ``data`` is flat and holds prod(``shape``) elements of the Arrow type of ``datatype``."""

    name: str
    shape: tuple[int, ...]
    datatype: Datatype
    data: pa.Array
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class InferRequest:
    """Tensors to answer; ``outputs`` names the wanted answers in their order, None means all."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...] | None = None
    id: str | None = None
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class InferResponse:
    """Answers, and which model and version gave them."""

    model_name: str
    model_version: str
    id: str
    outputs: tuple[Tensor, ...]
    parameters: Parameters = field(default_factory=dict)


def parse_request(body: bytes) -> InferRequest:
    """Return the request in a JSON body; raise SpecError with up to 20 problems, each with its place.

    >>> request = parse_request(b'{"inputs": [{"name": "a", "shape": [2], "datatype": "FP32", "data": [1, null]}]}')
    >>> request.inputs[0].data.to_pylist()
    [1.0, None]
    """
    document = _document(body, known=("id", "parameters", "inputs", "outputs"))
    problems: list[str] = []
    if not document.get("inputs"):
        problems.append(f"inputs: {_shown(document.get('inputs'))} given; a list of at least one tensor is needed")
    inputs = _tensors(document, "inputs", problems)
    request_id = _text(document, "id", problems)
    parameters = _parameters(document.get("parameters"), "parameters", problems)
    outputs = _requested(document.get("outputs"), problems)
    if problems:
        raise SpecError(*problems[:_MOST_PROBLEMS])
    return InferRequest(inputs=inputs, outputs=outputs, id=request_id, parameters=parameters)


def parse_response(body: bytes) -> InferResponse:
    """Return the response in a JSON body; raise SpecError as `parse_request` does."""
    document = _document(body, known=("id", "parameters", "outputs", "model_name", "model_version"))
    problems: list[str] = []
    outputs = _tensors(document, "outputs", problems)
    texts = {name: _text(document, name, problems) or "" for name in ("model_name", "model_version", "id")}
    parameters = _parameters(document.get("parameters"), "parameters", problems)
    if problems:
        raise SpecError(*problems[:_MOST_PROBLEMS])
    return InferResponse(outputs=outputs, parameters=parameters, **texts)


def write_request(request: InferRequest) -> bytes:
    """Return the JSON body of a request; a null or NaN is written as null, an infinity raises DataError."""
    document: dict[str, Any] = {"inputs": [_written(t, missing=True) for t in request.inputs]}
    if request.outputs is not None:
        document["outputs"] = [{"name": name} for name in request.outputs]
    if request.id is not None:
        document["id"] = request.id
    if request.parameters:
        document["parameters"] = request.parameters
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def write_response(response: InferResponse) -> bytes:
    """Return the JSON body of a response; raise DataError rather than write a number that is not finite."""
    document = {
        "model_name": response.model_name,
        "model_version": response.model_version,
        "id": response.id,
        "parameters": response.parameters,
        "outputs": [_written(t, missing=False) for t in response.outputs],
    }
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def tensor(name: str, column: pa.Array | pa.ChunkedArray) -> Tensor:
    """Return a column as a tensor of shape [rows]; NaN becomes null. Raise DataError for a type that has no datatype.

    >>> tensor("a", pa.array([1.5, float("nan")])).data.null_count
    1
    """
    data = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    data = _plain(data)
    if data.type not in _DATATYPE:
        raise DataError(
            f"column {name!r}: type {column.type} given; numbers, booleans and text can be sent, convert it first"
        )
    if pa.types.is_floating(data.type):
        data = pc.if_else(pc.is_nan(data), pa.scalar(None, data.type), data)
    return Tensor(name=name, shape=(len(data),), datatype=_DATATYPE[data.type], data=data)


def table_to_tensors(table: pa.Table, *, names: Iterable[str]) -> tuple[Tensor, ...]:
    """Return one tensor for each named column that the table has; other columns are left out."""
    present = set(table.column_names)
    return tuple(tensor(name, table.column(name)) for name in names if name in present)


def _plain(data: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(data.type):
        data = data.cast(data.type.value_type)
    if pa.types.is_large_string(data.type) or pa.types.is_string_view(data.type):
        return data.cast(pa.string())
    if pa.types.is_float16(data.type):
        return data.cast(pa.float32())
    if pa.types.is_decimal(data.type) or pa.types.is_null(data.type):
        return data.cast(pa.float64())
    return data


def _document(body: bytes, *, known: tuple[str, ...]) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise SpecError(f"body: is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise SpecError(f"body: {_shown(document)} given; an object with `inputs` is needed")
    unknown = [key for key in document if key not in known]
    if unknown:
        raise SpecError(*(f"{key:.80}: unknown key, known are {', '.join(known)}" for key in unknown[:_MOST_PROBLEMS]))
    return document


def _tensors(document: dict[str, Any], place: str, problems: list[str]) -> tuple[Tensor, ...]:
    values = document.get(place) or []
    if not isinstance(values, list):
        problems.append(f"{place}: {_shown(values)} given; a list of tensors is needed")
        return ()
    found: dict[str, Tensor] = {}
    for index, value in enumerate(values):
        try:
            made = _tensor(value, f"{place}[{index}]")
        except SpecError as error:
            problems += error.problems
            if len(problems) >= _MOST_PROBLEMS:
                break
            continue
        if made.name in found:
            problems.append(f"{place}[{index}].name: {made.name!r:.80} is given twice; keep one")
        found[made.name] = made
    return tuple(found.values())


def _tensor(value: Any, place: str) -> Tensor:
    if not isinstance(value, dict):
        raise SpecError(f"{place}: {_shown(value)} given; an object with name, shape, datatype and data is needed")
    known = ("name", "shape", "datatype", "data", "parameters")
    problems = [f"{place}.{key:.80}: unknown key, known are {', '.join(known)}" for key in value if key not in known]
    problems += [f"{place}.{key}: is missing" for key in known[:4] if key not in value]
    if problems:
        raise SpecError(*problems)
    parameters = _parameters(value.get("parameters"), f"{place}.parameters", problems)
    name, datatype, shape = value["name"], value["datatype"], value["shape"]
    if not isinstance(name, str) or not name:
        problems.append(f"{place}.name: {_shown(name)} given; a text is needed")
    if not isinstance(datatype, str) or datatype not in _ARROW:
        problems.append(f"{place}.datatype: {_shown(datatype)} given; one of {', '.join(_ARROW)} is needed")
    if not _is_shape(shape):
        problems.append(
            f"{place}.shape: {_shown(shape)} given; 1 to {_MOST_DIMENSIONS} whole numbers from 0 on are needed"
        )
    if problems:
        raise SpecError(*problems)
    flat = _flat(value["data"], tuple(shape), f"{place}.data")
    if len(flat) != prod(shape):
        raise SpecError(f"{place}.shape: {shape} needs {prod(shape)} elements, data has {len(flat)}")
    data = _elements(flat, datatype, f"{place}.data")
    return Tensor(name=name, shape=tuple(shape), datatype=datatype, data=data, parameters=parameters)


def _is_shape(value: Any) -> bool:
    return (
        isinstance(value, list)
        and 1 <= len(value) <= _MOST_DIMENSIONS
        and all(type(size) is int and 0 <= size < 2**63 for size in value)
    )


def _flat(data: Any, shape: tuple[int, ...], place: str) -> list[Any]:
    """Return the elements of flat data as they are, of nested data row by row; nested data must have the shape."""
    if not isinstance(data, list):
        raise SpecError(f"{place}: {_shown(data)} given; a list is needed")
    flat: list[Any] = data
    if not flat or not isinstance(flat[0], list):
        return flat
    for size in shape[1:]:
        wrong = next((i for i, part in enumerate(flat) if not isinstance(part, list) or len(part) != size), None)
        if wrong is not None:
            raise SpecError(f"{place}: {_shown(flat[wrong])} given; shape {list(shape)} needs lists of {size} there")
        flat = list(chain.from_iterable(flat))
    return flat


def _elements(flat: list[Any], datatype: str, place: str) -> pa.Array:
    allowed, words = _ELEMENTS.get(datatype) or _ELEMENTS[datatype[0]]
    if set(map(type, flat)) - allowed:
        wrong = next(i for i, element in enumerate(flat) if type(element) not in allowed)
        raise SpecError(f"{place}[{wrong}]: {_shown(flat[wrong])} given; {datatype} needs {words} or null")
    try:
        data = pa.array(flat, type=_ARROW[datatype])
    except (pa.ArrowInvalid, OverflowError):
        if datatype not in ("FP32", "FP64"):
            fits = _range(datatype)
            wrong = next(i for i, element in enumerate(flat) if element is not None and not fits(element))
            raise SpecError(f"{place}[{wrong}]: {_shown(flat[wrong])} given; is out of range of {datatype}") from None
        # Arrow refuses a whole number above 2^53 in a float; Python rounds it as every JSON reader does.
        data = pa.array([None if element is None else float(element) for element in flat], type=_ARROW[datatype])
    if datatype == "FP32" and pc.any(pc.is_inf(data)).as_py():
        wrong = int(np.flatnonzero(np.isinf(data.to_numpy(zero_copy_only=False)))[0])
        raise SpecError(f"{place}[{wrong}]: {_shown(flat[wrong])} given; is out of range of FP32")
    return data


def _range(datatype: str) -> Callable[[int], bool]:
    info = np.iinfo(datatype.lower())
    return lambda element: int(info.min) <= element <= int(info.max)


def _text(document: dict[str, Any], key: str, problems: list[str]) -> str | None:
    value = document.get(key)
    if value is not None and not (isinstance(value, str) and len(value) <= _MOST_ID):
        problems.append(f"{key}: {_shown(value)} given; a text of at most {_MOST_ID} characters is needed")
        return None
    return value


def _parameters(value: Any, place: str, problems: list[str]) -> Parameters:
    if value is None:
        return {}
    if not isinstance(value, dict):
        problems.append(f"{place}: {_shown(value)} given; an object is needed")
        return {}
    nested = [key for key, item in value.items() if not isinstance(item, bool | int | float | str)]
    problems += [
        f"{place}.{key:.80}: {_shown(value[key])} given; a number, text or boolean is needed" for key in nested
    ]
    return value


def _requested(value: Any, problems: list[str]) -> tuple[str, ...] | None:
    if value is None or value == []:
        return None
    if not isinstance(value, list):
        problems.append(f"outputs: {_shown(value)} given; a list of objects with a name is needed")
        return None
    names: list[str] = []
    for index, item in enumerate(value):
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str):
            problems.append(f"outputs[{index}]: {_shown(item)} given; an object with a name is needed")
        elif name in names:
            problems.append(f"outputs[{index}].name: {name!r:.80} is asked for twice; keep one")
        else:
            names.append(name)
        if len(problems) >= _MOST_PROBLEMS:
            break
    return tuple(names)


def _written(value: Tensor, *, missing: bool) -> dict[str, Any]:
    document: dict[str, Any] = {"name": value.name, "shape": value.shape, "datatype": value.datatype}
    if value.parameters:
        document["parameters"] = value.parameters
    if value.datatype in ("FP32", "FP64"):
        numbers = np.ascontiguousarray(value.data.to_numpy(zero_copy_only=False))
        bad = np.isinf(numbers) if missing else ~np.isfinite(numbers)
        if bad.any():
            at = int(np.flatnonzero(bad)[0])
            raise DataError(f"tensor {value.name!r}: {numbers[at]} at element {at} is not finite, JSON cannot hold it")
        document["data"] = numbers  # orjson writes a NaN, which here can only be a missing value, as null
    else:
        document["data"] = value.data.to_pylist()
    return document


def _shown(value: Any) -> str:
    """Return a short text of any JSON value without building a long one first."""
    if isinstance(value, list):
        return (
            f"a list of {len(value)}"
            if len(value) > 8 or any(isinstance(v, list | dict) for v in value)
            else f"{value!r:.80}"
        )
    if isinstance(value, dict):
        return f"an object of {len(value)} keys"
    return f"{value[:60]!r}" if isinstance(value, str) else "nothing" if value is None else f"{value!r:.80}"
