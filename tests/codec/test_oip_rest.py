"""Bodies of the protocol over HTTP: JSON, and JSON with binary data behind it."""

import math
from dataclasses import replace

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given

from raymlops.codec import (
    Datatype,
    InferRequest,
    InferResponse,
    Tensor,
    parse_request,
    parse_response,
    tensor,
    write_request,
    write_response,
)
from raymlops.errors import DataError, SpecError
from tests.codec.oip_values import DATATYPES, FLOATS, RESPONSES, requests

FP32 = Tensor(name="y", shape=(2,), datatype="FP32", data=pa.array([0.5, 1], pa.float32()))
TEXTS = Tensor(name="label", shape=(2,), datatype="BYTES", data=pa.array(["no", "é"]))
RESPONSE = InferResponse(model_name="m", model_version="1", id="i", outputs=(FP32, TEXTS))


@given(requests(nulls=DATATYPES, infinite=False))
def test_a_request_in_json_read_back_is_the_request_that_was_written(request: InferRequest) -> None:
    assert parse_request(*write_request(request)) == request


@given(requests(nulls=tuple(FLOATS), infinite=True))
def test_a_request_in_binary_read_back_is_the_request_that_was_written(request: InferRequest) -> None:
    body, length = write_request(request, binary=True)
    assert length is not None
    assert parse_request(body, str(length)) == request
    assert "data" not in orjson.loads(body[:length])["inputs"][0]


@given(RESPONSES)
def test_a_response_read_back_is_the_response_that_was_written(response: InferResponse) -> None:
    assert parse_response(*write_response(response)) == response
    assert parse_response(*write_response(response, binary=lambda _: True)) == response
    assert parse_response(*write_response(response, binary=lambda name: len(name) % 2 == 0)) == response


def test_the_bytes_of_binary_data_are_those_of_the_extension() -> None:
    body, length = write_response(RESPONSE, binary=lambda _: True)
    assert body[length:] == bytes.fromhex("0000003f0000803f" "020000006e6f" "02000000c3a9")  # fmt: skip
    outputs = orjson.loads(body[:length])["outputs"]
    assert [output["parameters"] for output in outputs] == [{"binary_data_size": 8}, {"binary_data_size": 12}]


def test_the_example_of_the_extension_is_read() -> None:
    header = b"""{ "model_name" : "mymodel", "inputs" : [
        { "name" : "input0", "shape" : [ 2, 2 ], "datatype" : "UINT32", "parameters" : { "binary_data_size" : 16 } },
        { "name" : "input1", "shape" : [ 3 ], "datatype" : "BOOL", "parameters" : { "binary_data_size" : 3 } } ],
        "outputs" : [ { "name" : "output0", "parameters" : { "binary_data" : true } } ] }"""
    body = header + np.array([1, 2, 3, 2**32 - 1], "<u4").tobytes() + b"\1\0\1"
    request = parse_request(body, len(header))
    assert [t.data.to_pylist() for t in request.inputs] == [[1, 2, 3, 2**32 - 1], [True, False, True]]
    assert request.model_name == "mymodel"
    assert request.wants_binary("output0")


def test_a_tensor_in_json_may_stand_between_binary_ones() -> None:
    mixed = (tensor("a", pa.array([1.5, None])), tensor("b", pa.array([1, None])), tensor("c", pa.array(["x", "y"])))
    body, length = write_request(InferRequest(inputs=mixed), binary=True)
    sent = orjson.loads(body[:length])["inputs"]
    assert ["data" in t for t in sent] == [False, True, False]  # a whole number in binary has no null
    assert parse_request(body, length).inputs == mixed


@pytest.mark.parametrize(
    ("general", "own", "wanted"),
    [(None, None, False), (True, None, True), (True, False, False), (False, True, True), (None, True, True)],
)
def test_what_an_output_asks_for_overrides_what_the_request_asks_for(
    general: bool | None, own: bool | None, wanted: bool
) -> None:
    asked = {"name": "y"} | ({} if own is None else {"parameters": {"binary_data": own}})
    body = {"inputs": [{"name": "a", "shape": [1], "datatype": "INT8", "data": [1]}], "outputs": [asked]}
    body |= {} if general is None else {"parameters": {"binary_data_output": general}}
    request = parse_request(orjson.dumps(body))
    assert request.wants_binary("y") is wanted
    sent, length = write_response(RESPONSE, binary=request.wants_binary)
    assert (length is not None) is (wanted or bool(general))
    assert parse_response(sent, length) == RESPONSE


def test_binary_numbers_lie_where_the_body_lies_if_that_is_aligned() -> None:
    numbers = tensor("a", pa.array([1.5, 2.5, 3.5]))
    for pad in range(8):
        body, length = write_request(InferRequest(inputs=(numbers,), id="x" * pad), binary=True)
        data = parse_request(body, length).inputs[0].data
        start, memory = data.buffers()[1].address, pa.py_buffer(body)
        inside = memory.address <= start < memory.address + len(body)
        assert start % 8 == 0
        assert inside is ((memory.address + len(body) - 24) % 8 == 0)
        assert data.to_pylist() == [1.5, 2.5, 3.5]


def test_nested_data_is_read_row_by_row_and_must_have_the_shape() -> None:
    flat = {"name": "a", "shape": [2, 3], "datatype": "INT8", "data": [1, 2, 3, 4, 5, 6]}
    nested = {**flat, "data": [[1, 2, 3], [4, 5, 6]]}
    assert parse_request(orjson.dumps({"inputs": [nested]})) == parse_request(orjson.dumps({"inputs": [flat]}))
    for wrong in ([[1, 2], [3, 4], [5, 6]], [[1, 2, 3], [4, 5]], [[1, 2, 3], 4], [[[1, 2, 3]], [[4, 5, 6]]]):
        with pytest.raises(SpecError, match=r"inputs\[0\]\.data"):
            parse_request(orjson.dumps({"inputs": [{**flat, "data": wrong}]}))


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), None])
@pytest.mark.parametrize("datatype", ["FP32", "BF16"])
def test_a_response_never_holds_a_number_that_is_not_finite(
    datatype: Datatype, value: float | None, binary: bool
) -> None:
    bad = replace(FP32, datatype=datatype, data=pa.array([0.5, value], pa.float32()))
    with pytest.raises(DataError, match=r"'y'.*element 1 is not finite"):
        write_response(replace(RESPONSE, outputs=(bad,)), binary=lambda _: binary)


def test_a_missing_text_has_no_binary_form() -> None:
    bad = replace(TEXTS, data=pa.array(["a", None]))
    with pytest.raises(DataError, match="'label': element 1 is missing; BYTES has no null"):
        write_response(replace(RESPONSE, outputs=(bad,)), binary=lambda _: True)


def test_a_request_in_json_writes_nan_as_missing_and_refuses_infinity() -> None:
    made = tensor("a", pa.array([1.0, float("nan"), None]))
    assert orjson.loads(write_request(InferRequest(inputs=(made,)))[0])["inputs"][0]["data"] == [1.0, None, None]
    with pytest.raises(DataError, match="not finite"):
        write_request(InferRequest(inputs=(tensor("a", pa.array([math.inf])),)))


def test_a_slice_of_a_column_is_written_as_it_is() -> None:
    table = pa.table({"n": [1, 2, 3], "f": [0.5, None, 2.5], "s": ["a", "b", "c"], "t": [True, False, True]})
    inputs = tuple(tensor(name, table.slice(1, 2).column(name)) for name in table.column_names)
    for binary in (False, True):
        read = parse_request(*write_request(InferRequest(inputs=inputs), binary=binary))
        assert [t.data.to_pylist() for t in read.inputs] == [[2, 3], [None, 2.5], ["b", "c"], [False, True]]


def test_a_value_that_json_cannot_hold_is_a_data_error() -> None:
    with pytest.raises(DataError, match="body: cannot be written as JSON"):
        write_response(replace(RESPONSE, parameters={"a": 2**64}))
