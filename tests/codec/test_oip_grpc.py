"""Messages of the protocol over gRPC."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given

from raymlops.codec import InferRequest, InferResponse, Parameters, Tensor, oip_grpc
from raymlops.codec.oip_messages import METHODS, message
from raymlops.errors import DataError, SpecError
from tests.codec.oip_values import FLOATS, RESPONSES, requests

HALVES = ("FP16", "BF16")
ONE = Tensor(name="y", shape=(2,), datatype="FP32", data=pa.array([0.5, 1], pa.float32()))
RESPONSE = InferResponse(model_name="m", model_version="1", id="i", outputs=(ONE,))


@given(requests(nulls=tuple(FLOATS), infinite=True))
def test_a_request_read_back_is_the_request_that_was_written(request: InferRequest) -> None:
    assert oip_grpc.parse_request(oip_grpc.write_request(request)) == (request, True)
    halves = any(t.datatype in HALVES for t in request.inputs)
    assert oip_grpc.parse_request(oip_grpc.write_request(request, raw=False)) == (request, halves)


@given(RESPONSES)
def test_a_response_read_back_is_the_response_that_was_written(response: InferResponse) -> None:
    assert oip_grpc.parse_response(oip_grpc.write_response(response, raw=True)) == response
    assert oip_grpc.parse_response(oip_grpc.write_response(response, raw=False)) == response


def test_every_datatype_of_a_typed_tensor_has_its_field() -> None:
    response = replace(RESPONSE, outputs=(ONE, replace(ONE, name="t", datatype="BYTES", data=pa.array(["a", "é"]))))
    sent = message("ModelInferResponse").FromString(oip_grpc.write_response(response, raw=False))
    assert list(sent.outputs[0].contents.fp32_contents) == [0.5, 1]
    assert list(sent.outputs[1].contents.bytes_contents) == [b"a", "é".encode()]
    assert not sent.raw_output_contents


def test_a_parameter_travels_in_the_field_of_its_type() -> None:
    chosen: Parameters = {"a": True, "b": 1, "c": "x", "d": 0.5, "e": 2**63}
    sent = message("ModelInferResponse").FromString(
        oip_grpc.write_response(replace(RESPONSE, parameters=chosen), raw=True)
    )
    fields = {key: value.WhichOneof("parameter_choice") for key, value in sent.parameters.items()}
    assert fields == dict(
        zip("abcde", [f"{f}_param" for f in ("bool", "int64", "string", "double", "uint64")], strict=True)
    )
    with pytest.raises(DataError, match="cannot be written as a message ModelInferResponse"):
        oip_grpc.write_response(replace(RESPONSE, parameters={"a": 2**64}), raw=True)


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_a_response_never_holds_a_number_that_is_not_finite(value: float | None, raw: bool) -> None:
    bad = replace(ONE, data=pa.array([0.5, value], pa.float32()))
    with pytest.raises(DataError, match=r"'y'.*element 1 is not finite"):
        oip_grpc.write_response(replace(RESPONSE, outputs=(bad,)), raw=raw)


def test_every_method_has_its_messages() -> None:
    for method in METHODS:
        assert message(f"{method}Request")().SerializeToString() == b""
        assert message(f"{method}Response")().SerializeToString() == b""


def infer(*inputs: dict[str, Any], raw: tuple[bytes, ...] = (), **fields: Any) -> bytes:
    heads = [{"name": f"i{index}", "datatype": "FP32", "shape": [1], **given} for index, given in enumerate(inputs)]
    made = message("ModelInferRequest")(inputs=heads, raw_input_contents=raw, **fields)
    return bytes(made.SerializeToString())


FOUR = np.float32(1).tobytes()
MESSAGES = {
    "no inputs": (infer(), "inputs: nothing given; at least one tensor"),
    "another message": (b"\x0a\x02\xff\xfe", "body: is not a message ModelInferRequest"),
    "raw contents of some": (infer({}, {}, raw=(FOUR,)), "raw_input_contents: 1 given; each of the 2 inputs needs one"),
    "raw and typed": (
        infer({"contents": {"fp32_contents": [1]}}, raw=(FOUR,)),
        r"inputs\[0\].contents: is given beside raw contents",
    ),
    "the field of another datatype": (
        infer({"contents": {"fp64_contents": [1]}}),
        r"inputs\[0\].contents.fp32_contents: 0 elements given; shape \[1\] needs 1",
    ),
    "a half float that is typed": (infer({"datatype": "FP16"}), r"inputs\[0\].contents: FP16 has no field here"),
    "a bfloat that is typed": (infer({"datatype": "BF16"}), r"inputs\[0\].contents: BF16 has no field here"),
    "a number out of range": (
        infer({"datatype": "INT8", "contents": {"int_contents": [128]}}),
        r"inputs\[0\].contents.int_contents\[0\]: 128 given; is out of range of INT8",
    ),
    "a text that is none": (
        infer({"datatype": "BYTES", "contents": {"bytes_contents": [b"\xff"]}}),
        r"inputs\[0\].contents.bytes_contents\[0\]: b'\\xff' given",
    ),
    "a raw length": (infer({}, raw=(b"123",)), r"inputs\[0\].data: 3 bytes given; 1 elements of FP32 need 4"),
    "a negative size": (infer({"shape": [-1]}), r"inputs\[0\].shape: \[-1\] given"),
    "no size": (infer({"shape": []}), r"inputs\[0\].shape: \[\] given"),
    "sizes that overflow": (infer({"shape": [2**62, 4]}), r"inputs\[0\].shape: .* elements at most"),
    "a datatype that is none": (infer({"datatype": "FP8"}), r"inputs\[0\].datatype: 'FP8' given; one of BOOL"),
    "no name": (infer({"name": ""}), r"inputs\[0\].name: '' given"),
    "a name given twice": (infer(*[{"name": "a"}] * 2, raw=(FOUR, FOUR)), r"inputs\[1\].name: 'a' is given twice"),
    "an output asked for twice": (
        infer({}, raw=(FOUR,), outputs=[{"name": "y"}] * 2),
        r"outputs\[1\].name: 'y' is asked for twice",
    ),
    "a parameter without a value": (infer({}, raw=(FOUR,), parameters={"a": {}}), "parameters.a: nothing given"),
    "classification": (
        infer({}, raw=(FOUR,), outputs=[{"name": "y", "parameters": {"classification": {"int64_param": 2}}}]),
        r"outputs\[0\].parameters.classification: is not offered",
    ),
    "shared memory": (
        infer({"parameters": {"shared_memory_region": {"string_param": "r"}}}),
        r"inputs\[0\].parameters.shared_memory_region: is not offered",
    ),
}


@pytest.mark.parametrize("case", MESSAGES)
def test_a_message_that_is_no_request_is_named_with_its_place(case: str) -> None:
    body, said = MESSAGES[case]
    with pytest.raises(SpecError, match=said):
        oip_grpc.parse_request(body)


def test_every_problem_is_told_at_once_and_no_more_than_twenty() -> None:
    with pytest.raises(SpecError) as caught:
        oip_grpc.parse_request(infer(*[{"shape": [-1], "datatype": "X"}] * 50, id="x" * 300))
    assert len(caught.value.problems) == 20
