"""Columns as tensors, and the elements of each datatype."""

import math

import ml_dtypes
import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raymlops.codec import InferRequest, Tensor, parse_request, table_to_tensors, tensor, write_request
from raymlops.errors import DataError, SpecError
from tests.codec.oip_values import WHOLE


def one(datatype: str, value: object) -> bytes:
    return orjson.dumps({"inputs": [{"name": "a", "shape": [1], "datatype": datatype, "data": [value]}]})


def test_a_table_becomes_one_tensor_a_known_column() -> None:
    table = pa.table(
        {
            "a": pa.array([1, None], pa.int16()),
            "b": pa.array(["x", None]).dictionary_encode(),
            "c": pa.array([None, None]),
            "d": pa.array([1, 2], pa.float16()),
            "unknown": pa.array([1, 2]),
        }
    )
    made = table_to_tensors(table, names=["d", "c", "b", "a", "absent"])
    assert [(t.name, t.datatype) for t in made] == [("d", "FP32"), ("c", "FP64"), ("b", "BYTES"), ("a", "INT16")]
    assert [t.data.to_pylist() for t in made] == [[1, 2], [None, None], ["x", None], [1, None]]


def test_a_column_without_a_datatype_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="column 'when': type timestamp"):
        tensor("when", pa.array([0], pa.timestamp("s")))


@given(st.sampled_from(sorted(WHOLE)), st.integers(-(2**63), 2**64 - 1))
def test_a_whole_number_is_read_exactly_or_refused(datatype: str, value: int) -> None:
    info = np.iinfo(datatype.lower())
    if info.min <= value <= info.max:
        assert parse_request(one(datatype, value)).inputs[0].data.to_pylist() == [value]
    else:
        with pytest.raises(SpecError, match=rf"inputs\[0\].data\[0\]: .* is out of range of {datatype}"):
            parse_request(one(datatype, value))


def test_whole_numbers_may_stand_for_floats_of_any_size() -> None:
    body = b'{"inputs": [{"name": "a", "shape": [3], "datatype": "FP64", "data": [1, 9007199254740993, null]}]}'
    assert parse_request(body).inputs[0].data.to_pylist() == [1.0, 2.0**53, None]


@given(
    st.sampled_from(["FP16", "FP32", "BF16"]),
    st.floats(allow_nan=False, allow_infinity=False) | st.floats(-70_000, 70_000) | st.floats(3.3e38, 3.5e38),
)
def test_a_float_of_json_is_rounded_to_the_nearest_of_its_datatype_or_refused(datatype: str, value: float) -> None:
    with np.errstate(over="ignore"):
        single = np.float64(value).astype(np.float16 if datatype == "FP16" else np.float32)
        nearest = float(single.astype(ml_dtypes.bfloat16) if datatype == "BF16" else single)
    if math.isinf(nearest):
        with pytest.raises(SpecError, match=rf"inputs\[0\].data\[0\]: .* is out of range of {datatype}"):
            parse_request(one(datatype, value))
    else:
        assert parse_request(one(datatype, value)).inputs[0].data.to_pylist() == [nearest]


# Upper halves with a lower half of a tie, or beside one; among them NaN whose only set bits are dropped.
BITS = st.tuples(
    st.integers(0, 2**16 - 1) | st.sampled_from([0x7F80, 0xFF80, 0x7F7F, 0x7FFF]),
    st.integers(0, 2**16 - 1) | st.sampled_from([0, 1, 0x7FFF, 0x8000, 0x8001]),
)


@given(st.lists(BITS, min_size=1))
@example([(0x3F80, 0x8000), (0x3F81, 0x8000), (0x7F80, 1), (0xFFFF, 0xFFFF), (0x7F7F, 0x8000)])
def test_bf16_is_written_as_the_nearest_ties_to_even(halves: list[tuple[int, int]]) -> None:
    numbers = np.array([upper << 16 | lower for upper, lower in halves], np.uint32).view(np.float32)
    made = Tensor(name="a", shape=(len(numbers),), datatype="BF16", data=pa.array(numbers))
    body, length = write_request(InferRequest(inputs=(made,)), binary=True)
    with np.errstate(over="ignore", invalid="ignore"):
        nearest = numbers.astype(ml_dtypes.bfloat16)
    written = np.frombuffer(body[length:], ml_dtypes.bfloat16)
    assert np.array_equal(written.astype(np.float32), nearest.astype(np.float32), equal_nan=True)


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64", "BF16", "INT8", "UINT64"])
@pytest.mark.parametrize("word", ["true", "false"])
def test_a_boolean_is_not_a_number(datatype: str, word: str) -> None:
    with pytest.raises(SpecError, match=rf"inputs\[0\].data\[0\]: (True|False) given; {datatype} needs"):
        parse_request(one(datatype, word == "true"))


@pytest.mark.parametrize("value", [1, 0, "true", 1.0])
def test_a_number_or_a_text_is_not_a_boolean(value: object) -> None:
    with pytest.raises(SpecError, match=r"inputs\[0\].data\[0\]: .* given; BOOL needs true, false or null"):
        parse_request(one("BOOL", value))
