"""What is no request is a SpecError that names its place: in JSON, in binary data, in messages."""

import struct
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymlops.codec import InferRequest, oip_grpc, parse_request, parse_response, write_request
from raymlops.errors import RaymlopsError, SpecError
from tests.codec.oip_values import FLOATS, TEXT, requests

DEEP = "[" * 100_000 + "]" * 100_000


def one(*, around: str = "", also: str = "", **changes: str) -> str:
    """Return the text of a request of one tensor, whose fields are texts of JSON."""
    fields = {"name": '"a"', "shape": "[1]", "datatype": '"FP32"', "data": "[1]", **changes}
    return (
        '{"inputs": [{' + ", ".join(f'"{key}": {value}' for key, value in fields.items()) + also + "}]" + around + "}"
    )


BODIES = {
    "NaN": (one(data="[NaN]"), "is not JSON"),
    "an infinity": (one(data="[-Infinity]"), "is not JSON"),
    "a number over float64": (one(data="[1e400]"), "is not JSON"),
    "depth": (DEEP, "is not JSON"),
    "depth of data": (one(data=DEEP), "is not JSON"),
    "depth that JSON allows": (one(data="[" * 900 + "]" * 900), r"inputs\[0\]\.data\[0\]: a list of 1 given"),
    "a lone surrogate": (one(name='"\\ud800"'), "is not JSON"),
    "a list": ("[]", "body: .* an object with"),
    "no inputs": ("{}", "inputs: nothing given"),
    "inputs of no tensor": ('{"inputs": []}', "inputs: .* at least one tensor"),
    "inputs that are none": ('{"inputs": {"a": 1}}', "inputs: an object of 1 keys given; a list of tensors"),
    "a tensor that is none": ('{"inputs": [1]}', r"inputs\[0\]: 1 given; an object"),
    "no name": (one(name="null"), r"inputs\[0\].name: nothing given"),
    "no data": (one(data="null"), r"inputs\[0\].data: nothing given; a list is needed"),
    "an unknown key": (one(dtype="1"), r"inputs\[0\].dtype: unknown key"),
    "an unknown key around": (one(around=', "input": 1'), "input: unknown key"),
    "an unknown key of an output": (one(around=', "outputs": [{"name": "y", "a": 1}]'), r"outputs\[0\].a: unknown key"),
    "2^63 in INT64": (one(datatype='"INT64"', data="[9223372036854775808]"), r"\.data\[0\]: .* out of range of INT64"),
    "over 64 bits": (one(datatype='"UINT64"', data="[18446744073709551617]"), r"\.data\[0\]: .* whole numbers"),
    "a float over FP32": (one(data="[1e39]"), r"inputs\[0\].data\[0\]: 1e\+39 given; is out of range of FP32"),
    "a text among floats": (one(data='["1"]'), r"inputs\[0\].data\[0\]: '1' given; FP32 needs numbers or null"),
    "a float among whole numbers": (one(datatype='"INT8"', data="[1.0]"), r"\.data\[0\]: 1.0 given; INT8 needs whole"),
    "a negative size": (one(shape="[-1]"), r"inputs\[0\].shape: \[-1\] given"),
    "a size that is true": (one(shape="[true]"), r"inputs\[0\].shape: \[True\] given"),
    "sizes that overflow": (one(shape="[4294967296, 4294967296]"), r"inputs\[0\].shape: .* elements at most"),
    "sizes beside 0 that overflow": (one(shape="[0, 4611686018427387904]"), r"\.shape: .* elements at most"),
    "nine dimensions": (one(shape="[1, 1, 1, 1, 1, 1, 1, 1, 1]"), r"inputs\[0\].shape: a list of 9 given"),
    "a size over the data": (
        one(shape="[1000000000]"),
        r"\.shape: \[1000000000\] needs 1000000000 elements, data has 1",
    ),
    "a datatype that is none": (one(datatype='"fp32"'), r"inputs\[0\].datatype: 'fp32' given; one of BOOL"),
    "a name given twice": (
        one(around=', "inputs": [%s, %s]' % (2 * (one()[12:-2],))),
        r"\[1\].name: 'a' is given twice",
    ),
    "a nested parameter": (one(around=', "parameters": {"a": [1]}'), "parameters.a: .* a number, text or boolean"),
    "parameters that are none": (one(parameters="[1]"), r"inputs\[0\].parameters: \[1\] given; an object"),
    "an output asked for twice": (
        one(around=', "outputs": [{"name": "y"}, {"name": "y"}]'),
        r"outputs\[1\].name: 'y' is",
    ),
    "an output without a name": (one(around=', "outputs": [{}]'), r"outputs\[0\]: an object of 0 keys given"),
    "classification": (
        one(around=', "outputs": [{"name": "y", "parameters": {"classification": 3}}]'),
        r"outputs\[0\].parameters.classification: is not offered",
    ),
    "shared memory": (
        one(parameters='{"shared_memory_region": "r"}'),
        r"inputs\[0\].parameters.shared_memory_region: is not offered",
    ),
    "binary_data that is no boolean": (
        one(around=', "outputs": [{"name": "y", "parameters": {"binary_data": 1}}]'),
        r"outputs\[0\].parameters.binary_data: 1 given; true or false",
    ),
    "binary_data_output that is no boolean": (
        one(around=', "parameters": {"binary_data_output": "yes"}'),
        "parameters.binary_data_output: 'yes' given; true or false",
    ),
    "binary data without its header": (
        one(parameters='{"binary_data_size": 4}'),
        "binary_data_size: 4 given; it needs the header Inference-Header-Content-Length",
    ),
    "an id that is a number": (one(around=', "id": 4'), "id: 4 given; a text"),
    "an id that is long": (one(around=f', "id": "{"x" * 257}"'), "id: .* at most 256 characters"),
}


@pytest.mark.parametrize("case", BODIES)
def test_a_body_that_is_no_request_is_named_with_its_place(case: str) -> None:
    body, said = BODIES[case]
    with pytest.raises(SpecError, match=said):
        parse_request(body.encode())


def test_of_a_key_given_twice_the_last_counts() -> None:
    request = parse_request(one(also=', "name": "b"', around=', "id": "1", "id": "2"').encode())
    assert (request.id, request.inputs[0].name) == ("2", "b")


def test_every_problem_is_told_at_once_and_no_more_than_twenty() -> None:
    bad = [{"name": "a", "shape": [-1], "datatype": "X", "data": []}] * 50
    with pytest.raises(SpecError) as caught:
        parse_request(orjson.dumps({"inputs": bad, "outputs": 3, "id": 4}))
    assert len(caught.value.problems) == 20
    assert {problem.split(":")[0] for problem in caught.value.problems} >= {"inputs[0].shape", "inputs[3].datatype"}


def with_blob(blob: bytes, *, size: Any = None, **head: Any) -> tuple[bytes, int]:
    tensor = {"name": "a", "shape": [2], "datatype": "BYTES", **head}
    tensor |= {"parameters": {"binary_data_size": len(blob) if size is None else size}}
    header = orjson.dumps({"inputs": [tensor]})
    return header + blob, len(header)


def text(length: int, text: bytes) -> bytes:
    return struct.pack("<I", length) + text


BLOBS = {
    "a length over the end": (with_blob(text(1, b"a") + text(9, b"b")), r"data\[1\]: length 9 given; 1 bytes are left"),
    "a length of 4 GiB": (with_blob(text(2**32 - 1, b"abcd")), r"data\[0\]: length 4294967295 given; 4 bytes are left"),
    "a length cut short": (with_blob(text(1, b"a") + b"\1\0\0"), r"data\[1\]: length .* given; 0 bytes are left"),
    "too few texts": (with_blob(text(0, b"")), r"4 bytes given; 2 elements of BYTES need 4 each"),
    "too many texts": (with_blob(text(0, b"") * 3), r"12 bytes given; 2 elements of BYTES end after 8"),
    "not UTF-8": (with_blob(text(1, b"a") + text(1, b"\xff")), r"inputs\[0\].data\[1\]: b'\\xff' given; .*UTF-8"),
    "too few bytes": (with_blob(b"\0" * 7, datatype="FP32"), r"7 bytes given; 2 elements of FP32 need 8"),
    "too many bytes": (with_blob(b"\0" * 9, datatype="FP32"), r"9 bytes given; 2 elements of FP32 need 8"),
    "a boolean of 2": (with_blob(b"\1\2", datatype="BOOL"), r"data\[1\]: byte 2 given; BOOL needs 0 or 1"),
    "more elements than memory": (with_blob(b"", shape=[2**39]), r"0 bytes given; 549755813888 elements of BYTES"),
    "a size over the body": (with_blob(b"ab", size=3), r"binary_data_size: 3 given; 2 bytes are left"),
    "a negative binary size": (with_blob(b"ab", size=-1), "binary_data_size: -1 given; a whole number of bytes"),
    "a binary size that is a text": (with_blob(b"ab", size="2"), "binary_data_size: '2' given; a whole number"),
    "bytes behind the last": (with_blob(b"ab", size=1), "body: 1 bytes follow the last tensor"),
    "data as well": (with_blob(b"ab", datatype="INT8", data=[1, 2]), r"data: is given beside binary_data_size"),
}


@pytest.mark.parametrize("case", BLOBS)
def test_binary_data_that_is_no_tensor_is_named_with_its_place(case: str) -> None:
    body, said = BLOBS[case]
    with pytest.raises(SpecError, match=said):
        parse_request(*body)


@pytest.mark.parametrize("length", [-1, 10**30, "", "x", "-1", " 1", "1_0", "٣", "9" * 5000, "0x1", "99"])
def test_a_length_of_the_header_that_is_none_is_refused(length: int | str) -> None:
    with pytest.raises(SpecError, match=r"Inference-Header-Content-Length: .* given"):
        parse_request(b'{"inputs": []}', length)


def problems_of(parse: Callable[..., object], *given: object) -> Sequence[str]:
    """Return the problems of what cannot be parsed, none of what can; any other error passes."""
    try:
        parse(*given)
    except RaymlopsError as error:
        return error.problems
    return ()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
KEYS = ("name", "shape", "datatype", "data", "parameters", "inputs", "outputs", "id", "model_name")


@given(st.dictionaries(st.sampled_from(KEYS), VALUES), st.dictionaries(st.sampled_from(KEYS[5:]), VALUES))
def test_any_json_where_a_tensor_should_be_is_a_request_or_a_spec_error(value: Any, around: Any) -> None:
    base = {"name": "a", "shape": [1], "datatype": "FP64", "data": [1]}
    problems = problems_of(parse_request, orjson.dumps({"inputs": [{**base, **value}], **around}))
    assert len(problems) <= 20
    assert all(len(problem) < 500 for problem in problems)


@given(st.binary(max_size=60) | st.recursive(st.none() | TEXT | st.integers() | st.floats(), st.lists).map(repr))
def test_bytes_that_are_no_request_are_a_spec_error(body: bytes | str) -> None:
    with pytest.raises(SpecError):
        parse_request(body if isinstance(body, bytes) else body.encode(errors="surrogatepass"))


def _rest(request: InferRequest) -> tuple[bytes, int | None]:
    return write_request(request)


def _binary(request: InferRequest) -> tuple[bytes, int | None]:
    return write_request(request, binary=True)


def _raw(request: InferRequest) -> tuple[bytes, int | None]:
    return oip_grpc.write_request(request), None


def _typed(request: InferRequest) -> tuple[bytes, int | None]:
    return oip_grpc.write_request(request, raw=False), None


@st.composite
def damaged(draw: st.DrawFn, write: Callable[[InferRequest], tuple[bytes, int | None]]) -> tuple[bytes, int | None]:
    body, length = write(draw(requests(nulls=tuple(FLOATS), infinite=False)))
    for _ in range(draw(st.integers(1, 3))):
        at, end = sorted(draw(st.tuples(st.integers(0, len(body)), st.integers(0, len(body)))))
        put = draw(st.binary(max_size=3) | st.sampled_from([body[at:end], b"-", b"1e999", b"]", b"null", b"true"]))
        body = body[:at] + put + body[draw(st.sampled_from([at, at + 1, end])) :]
    return body, draw(st.sampled_from([length, None if length is None else length + draw(st.integers(-3, 3))]))


@given(damaged(_rest) | damaged(_binary))
def test_a_damaged_body_is_read_or_is_one_of_our_errors(sent: tuple[bytes, int | None]) -> None:
    for parse in (parse_request, parse_response):
        assert all(len(problem) < 500 for problem in problems_of(parse, *sent))


@given(damaged(_raw) | damaged(_typed) | st.binary(max_size=60).map(lambda body: (body, None)))
def test_a_damaged_message_is_read_or_is_one_of_our_errors(sent: tuple[bytes, int | None]) -> None:
    for parse in (oip_grpc.parse_request, oip_grpc.parse_response):
        assert all(len(problem) < 500 for problem in problems_of(parse, sent[0]))
