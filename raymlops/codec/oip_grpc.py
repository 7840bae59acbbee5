"""The Open Inference Protocol v2 over gRPC: messages in, values out, and back. Knows nothing of channels or models.

A message holds its tensors either typed, each in the repeated field of its datatype, or raw, as the binary tensors of
HTTP; FP16 and BF16 only raw. A NaN is a missing value, since neither has a null. What is malformed raises SpecError
with every problem as `inputs[1].shape: what was given, what is allowed`.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import pyarrow as pa
from google.protobuf.message import DecodeError

from raymlops.codec.oip import InferRequest, InferResponse, Parameters, Tensor
from raymlops.codec.oip_checks import check, gather, head_problems, parameters_of, requested, text_of
from raymlops.codec.oip_elements import from_binary, from_json, from_texts, is_float, to_binary, to_typed
from raymlops.codec.oip_messages import message
from raymlops.errors import DataError, SpecError

__all__ = ["parse_request", "parse_response", "write_request", "write_response"]

_TYPED = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def parse_request(body: bytes) -> tuple[InferRequest, bool]:
    """Return the request in a ModelInferRequest, and whether its tensors are raw, as then the answer's should be.

    Raise SpecError with up to 20 problems, each with its place.
    """
    given = _parsed("ModelInferRequest", body)
    problems: list[str] = [] if given.inputs else ["inputs: nothing given; at least one tensor is needed"]
    wanted = [{"name": output.name, "parameters": _plain(output.parameters)} for output in given.outputs]
    outputs, output_parameters = requested(wanted, problems)
    request = InferRequest(
        inputs=_tensors(given.inputs, given.raw_input_contents, "inputs", problems),
        outputs=outputs,
        id=text_of(given.id or None, "id", problems),
        parameters=parameters_of(_plain(given.parameters), "parameters", problems),
        output_parameters=output_parameters,
        model_name=text_of(given.model_name, "model_name", problems) or "",
        model_version=text_of(given.model_version, "model_version", problems) or "",
    )
    check(problems)
    return request, bool(given.raw_input_contents)


def parse_response(body: bytes) -> InferResponse:
    """Return the response in a ModelInferResponse; raise SpecError as `parse_request` does."""
    given = _parsed("ModelInferResponse", body)
    problems: list[str] = []
    response = InferResponse(
        model_name=text_of(given.model_name, "model_name", problems) or "",
        model_version=text_of(given.model_version, "model_version", problems) or "",
        id=text_of(given.id, "id", problems) or "",
        outputs=_tensors(given.outputs, given.raw_output_contents, "outputs", problems),
        parameters=parameters_of(_plain(given.parameters), "parameters", problems),
    )
    check(problems)
    return response


def _parsed(name: str, body: bytes) -> Any:
    try:
        return message(name).FromString(body)
    except DecodeError as error:
        raise SpecError(f"body: is not a message {name}: {error}") from error


def _plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as JSON has them: one that chooses no value is None, which the checks refuse."""
    chosen = {key: (given, given.WhichOneof("parameter_choice")) for key, given in parameters.items()}
    return {key: getattr(given, choice) if choice else None for key, (given, choice) in chosen.items()}


def _tensors(values: Sequence[Any], raw: Sequence[bytes], place: str, problems: list[str]) -> tuple[Tensor, ...]:
    if raw and len(raw) != len(values):
        problems.append(
            f"raw_{place.removesuffix('s')}_contents: {len(raw)} given; each of the {len(values)} {place} needs one"
        )
        return ()
    return gather(values, raw or [None] * len(values), place, _tensor, problems)


def _tensor(value: Any, place: str, raw: bytes | None) -> Tensor:
    shape = list(value.shape)
    problems = head_problems(value.name, value.datatype, shape, place)
    parameters = parameters_of(_plain(value.parameters), f"{place}.parameters", problems)
    if raw is not None and value.HasField("contents"):
        problems.append(f"{place}.contents: is given beside raw contents; keep one")
    check(problems)
    if raw is not None:
        data = from_binary(raw, value.datatype, prod(shape), f"{place}.data")
    else:
        data = _typed(value.contents, value.datatype, shape, f"{place}.contents")
    return Tensor(name=value.name, shape=tuple(shape), datatype=value.datatype, data=data, parameters=parameters)


def _typed(contents: Any, datatype: str, shape: list[int], place: str) -> pa.Array:
    if datatype not in _TYPED:
        raise SpecError(f"{place}: {datatype} has no field here; send it as raw contents")
    place = f"{place}.{_TYPED[datatype]}"
    elements = getattr(contents, _TYPED[datatype])
    if len(elements) != prod(shape):
        raise SpecError(f"{place}: {len(elements)} elements given; shape {shape} needs {prod(shape)}")
    if datatype == "BYTES":
        return from_texts(elements[:], place)
    if is_float(datatype):
        packed = np.array(elements[:], "<f4" if datatype == "FP32" else "<f8").tobytes()
        return from_binary(packed, datatype, len(elements), place)
    return from_json(elements[:], datatype, place)


def write_request(request: InferRequest, *, raw: bool = True) -> bytes:
    """Return a ModelInferRequest, raw where a datatype has no typed field.

    A missing float is written as NaN; any other null raises DataError.
    """
    given = request.output_parameters
    return _message(
        "ModelInferRequest",
        model_name=request.model_name,
        model_version=request.model_version,
        id=request.id or "",
        parameters=_chosen(request.parameters),
        outputs=[{"name": name, "parameters": _chosen(given.get(name, {}))} for name in request.outputs or ()],
        **_contents("input", request.inputs, raw=raw, missing=True),
    )


def write_response(response: InferResponse, *, raw: bool) -> bytes:
    """Return a ModelInferResponse, raw also where a datatype has no typed field.

    Raise DataError rather than write a number that is not finite.
    """
    return _message(
        "ModelInferResponse",
        model_name=response.model_name,
        model_version=response.model_version,
        id=response.id,
        parameters=_chosen(response.parameters),
        **_contents("output", response.outputs, raw=raw, missing=False),
    )


def _contents(place: str, tensors: Sequence[Tensor], *, raw: bool, missing: bool) -> dict[str, Any]:
    heads: list[dict[str, Any]] = [
        {"name": t.name, "datatype": t.datatype, "shape": t.shape, "parameters": _chosen(t.parameters)} for t in tensors
    ]
    if raw or any(t.datatype not in _TYPED for t in tensors):
        return {f"{place}s": heads, f"raw_{place}_contents": [to_binary(t, missing=missing) for t in tensors]}
    contents = [{"contents": {_TYPED[t.datatype]: to_typed(t, missing=missing)}} for t in tensors]
    return {f"{place}s": [head | content for head, content in zip(heads, contents, strict=True)]}


def _chosen(parameters: Parameters) -> dict[str, dict[str, Any]]:
    return {key: {_choice(value): value} for key, value in parameters.items()}


def _choice(value: bool | int | float | str) -> str:
    if isinstance(value, bool):
        return "bool_param"
    if isinstance(value, int):
        return "int64_param" if value < 2**63 else "uint64_param"
    return "double_param" if isinstance(value, float) else "string_param"


def _message(name: str, **fields: Any) -> bytes:
    try:
        return bytes(message(name)(**fields).SerializeToString())
    except (ValueError, TypeError) as error:
        raise DataError(f"body: cannot be written as a message {name}: {error}") from error
