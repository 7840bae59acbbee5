"""A plain request is read, and its answer written, as the long way would; what is not plain is left to the long way."""

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymlops.codec import InferResponse, Tensor, parse_plain, parse_request, write_plain, write_response
from raymlops.errors import SpecError

NUMBERS = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**70), 2**70))


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    rows, features = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    wrong = draw(st.integers(0, 9)) == 0
    data = draw(st.lists(NUMBERS, min_size=rows * features + wrong, max_size=rows * features + wrong))
    matrix = {
        "name": "x",
        "shape": [rows, features],
        "datatype": draw(st.sampled_from(["FP32", "FP64"])),
        "data": [float(n) for n in data],
    }
    request: dict[str, object] = {"inputs": [matrix]}
    if draw(st.booleans()):
        request["id"] = draw(st.text(max_size=300))
    try:
        return orjson.dumps(request)
    except orjson.JSONEncodeError:  # a lone surrogate
        return orjson.dumps({"inputs": [matrix]})


@given(bodies())
def test_what_is_read_at_once_is_what_the_long_way_reads(body: bytes) -> None:
    plain = parse_plain(body)
    matrix = plain.matrix() if plain else None
    if plain is None or matrix is None:
        return
    if np.isinf(matrix).any():
        with pytest.raises(SpecError, match="out of range of FP32"):
            parse_request(body)
        return
    parsed = parse_request(body)
    (tensor,) = parsed.inputs
    assert (parsed.id, tensor.shape) == (plain.id, matrix.shape)
    np.testing.assert_array_equal(tensor.data.to_numpy(zero_copy_only=False).reshape(tensor.shape), matrix)
    assert tensor.data.to_numpy(zero_copy_only=False).dtype == matrix.dtype


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"\xff", b'{"inputs": []}', b"[" * 100_000,
        b'{"inputs": [{"name": "y", "shape": [1, 1], "datatype": "FP32", "data": [1]}]}',
        b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}',
        b'{"inputs": [{"name": "x", "shape": [1, 1], "datatype": "INT64", "data": [1]}]}',
        b'{"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [null]}]}',
        b'{"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": ["1"]}]}',
        b'{"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [true]}]}',
        b'{"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [[1]]}]}',
        b'{"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [NaN]}]}',
        b'{"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}], "outputs": []}',
        b'{"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}], "id": 1}',
        b'{"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}], "more": 1}',
    ],
)  # fmt: skip
def test_what_is_not_plain_is_left_to_the_long_way(body: bytes) -> None:
    assert parse_plain(body) is None


@pytest.mark.parametrize("shape", [[2**63, 1], [2**63, 0], [-1, 1], [1, -1], [0, 0], [1, 2]])
def test_a_shape_that_is_not_that_of_its_data_is_left_to_the_long_way(shape: list[int]) -> None:
    data = [1.0] if shape == [1, 2] else []
    body = b'{"inputs": [{"name": "x", "shape": %s, "datatype": "FP64", "data": %s}]}'
    plain = parse_plain(body % (orjson.dumps([str(n) for n in shape]).replace(b'"', b""), orjson.dumps(data)))
    assert plain is not None
    assert plain.matrix() is None


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=5), st.text(max_size=9))
def test_what_is_written_at_once_is_what_the_long_way_writes(numbers: list[float], word: str) -> None:
    values = np.array(numbers, np.float32)
    words = np.array([word] * len(numbers), dtype=object)
    outputs = (
        Tensor(name="p", shape=values.shape, datatype="FP32", data=pa.array(values, pa.float32())),
        Tensor(name="t", shape=words.shape, datatype="BYTES", data=pa.array(words, pa.string())),
    )
    parameters = {"engine": "native"}
    response = InferResponse(model_name="m", model_version="1", id="i", outputs=outputs, parameters=parameters)
    strided = np.repeat(values, 2)[::2]
    given = [("p", "FP32", strided), ("t", "BYTES", words)]
    assert write_plain("m", "1", "i", parameters, given) == write_response(response)[0]  # type: ignore[arg-type]
