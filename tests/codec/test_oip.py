"""The protocol's JSON, both ways."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymlops.codec import (
    InferRequest,
    InferResponse,
    Tensor,
    parse_request,
    parse_response,
    table_to_tensors,
    tensor,
    write_request,
    write_response,
)
from raymlops.errors import DataError, SpecError

WHOLE = {f"{u}INT{bits}": (u, bits) for u in ("", "U") for bits in (8, 16, 32, 64)}
ARROW = {"FP32": pa.float32(), "FP64": pa.float64(), "BYTES": pa.string(), "BOOL": pa.bool_()} | {
    name: getattr(pa, name.lower())() for name in WHOLE
}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PARAMETERS = st.dictionaries(
    TEXT, st.one_of(TEXT, st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False))
)


def elements(datatype: str) -> st.SearchStrategy[Any]:
    if datatype in WHOLE:
        unsigned, bits = WHOLE[datatype]
        return st.integers(0 if unsigned else -(2 ** (bits - 1)), 2**bits - 1 if unsigned else 2 ** (bits - 1) - 1)
    floats = st.floats(width=32 if datatype == "FP32" else 64, allow_nan=False, allow_infinity=False)
    return {"BOOL": st.booleans(), "BYTES": TEXT}.get(datatype, floats)


@st.composite
def tensors(draw: st.DrawFn, *, name: str, nulls: bool) -> Tensor:
    datatype = draw(st.sampled_from(sorted(ARROW)))
    shape = tuple(draw(st.lists(st.integers(0, 4), min_size=1, max_size=3)))
    element = elements(datatype)
    flat = draw(
        st.lists(st.none() | element if nulls else element, min_size=math.prod(shape), max_size=math.prod(shape))
    )
    data = pa.array(flat, type=ARROW[datatype])
    return Tensor(name=name, shape=shape, datatype=datatype, data=data, parameters=draw(PARAMETERS))  # type: ignore[arg-type]


@st.composite
def many(draw: st.DrawFn, *, nulls: bool, at_least: int) -> tuple[Tensor, ...]:
    names = draw(st.lists(TEXT.filter(bool), min_size=at_least, max_size=3, unique=True))
    return tuple(draw(tensors(name=name, nulls=nulls)) for name in names)


REQUESTS = st.builds(
    InferRequest,
    inputs=many(nulls=True, at_least=1),
    outputs=st.none() | st.lists(TEXT, min_size=1, max_size=3, unique=True).map(tuple),
    id=st.none() | TEXT,
    parameters=PARAMETERS,
)
RESPONSES = st.builds(
    InferResponse,
    model_name=TEXT,
    model_version=TEXT,
    id=TEXT,
    outputs=many(nulls=False, at_least=0),
    parameters=PARAMETERS,
)


@given(REQUESTS)
def test_a_request_read_back_is_the_request_that_was_written(request: InferRequest) -> None:
    assert parse_request(*write_request(request)) == request


@given(RESPONSES)
def test_a_response_read_back_is_the_response_that_was_written(response: InferResponse) -> None:
    assert parse_response(*write_response(response)) == response


@given(st.binary(max_size=60) | st.recursive(st.none() | TEXT | st.integers() | st.floats(), st.lists).map(repr))
def test_bytes_that_are_no_request_are_a_spec_error(body: bytes | str) -> None:
    with pytest.raises(SpecError):
        parse_request(body if isinstance(body, bytes) else body.encode(errors="surrogatepass"))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
KEYS = ("name", "shape", "datatype", "data", "parameters", "inputs", "outputs", "id")


@given(st.dictionaries(st.sampled_from(KEYS), VALUES), st.dictionaries(st.sampled_from(KEYS[5:]), VALUES))
def test_any_json_where_a_tensor_should_be_is_a_request_or_a_spec_error(value: Any, around: Any) -> None:
    base = {"name": "a", "shape": [1], "datatype": "FP64", "data": [1]}
    problems: Sequence[str] = ["none"]
    try:
        parse_request(orjson.dumps({"inputs": [{**base, **value}], **around}))
    except SpecError as error:
        problems = error.problems
    assert 0 < len(problems) <= 20
    assert all(len(problem) < 500 for problem in problems)


@given(st.sampled_from(sorted(WHOLE)), st.integers(-(2**63), 2**64 - 1))
def test_a_whole_number_is_read_exactly_or_refused(datatype: str, value: int) -> None:
    body = orjson.dumps({"inputs": [{"name": "a", "shape": [1], "datatype": datatype, "data": [value]}]})
    info = np.iinfo(datatype.lower())
    if info.min <= value <= info.max:
        assert parse_request(body).inputs[0].data.to_pylist() == [value]
    else:
        with pytest.raises(SpecError, match=rf"inputs\[0\].data\[0\]: .* is out of range of {datatype}"):
            parse_request(body)


def test_whole_numbers_may_stand_for_floats_of_any_size() -> None:
    body = b'{"inputs": [{"name": "a", "shape": [3], "datatype": "FP64", "data": [1, 9007199254740993, null]}]}'
    assert parse_request(body).inputs[0].data.to_pylist() == [1.0, 2.0**53, None]


def test_nested_data_is_read_row_by_row_and_must_have_the_shape() -> None:
    flat = {"name": "a", "shape": [2, 3], "datatype": "INT8", "data": [1, 2, 3, 4, 5, 6]}
    nested = {**flat, "data": [[1, 2, 3], [4, 5, 6]]}
    assert parse_request(orjson.dumps({"inputs": [nested]})) == parse_request(orjson.dumps({"inputs": [flat]}))
    for wrong in ([[1, 2], [3, 4], [5, 6]], [[1, 2, 3], [4, 5]], [[1, 2, 3], 4], [[[1, 2, 3]], [[4, 5, 6]]]):
        with pytest.raises(SpecError, match=r"inputs\[0\]\.data"):
            parse_request(orjson.dumps({"inputs": [{**flat, "data": wrong}]}))


def test_every_problem_is_told_at_once_and_no_more_than_twenty() -> None:
    bad = [{"name": "a", "shape": [-1], "datatype": "X", "data": []}] * 50
    with pytest.raises(SpecError) as caught:
        parse_request(orjson.dumps({"inputs": bad, "outputs": 3, "id": 4}))
    assert len(caught.value.problems) == 20
    assert {problem.split(":")[0] for problem in caught.value.problems} >= {"inputs[0].shape", "inputs[3].datatype"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_response_never_holds_a_number_that_is_not_finite(value: float) -> None:
    output = Tensor(name="y", shape=(2,), datatype="FP32", data=pa.array([0.5, value], pa.float32()))
    response = InferResponse(model_name="m", model_version="1", id="i", outputs=(output,))
    with pytest.raises(DataError, match=r"'y'.*element 1 is not finite"):
        write_response(response)
    written, _ = write_response(replace(response, outputs=(replace(output, data=pa.array([0.5, 1], pa.float32())),)))
    assert orjson.loads(written)["outputs"][0]["data"] == [0.5, 1]


def test_a_request_writes_nan_as_missing_and_refuses_infinity() -> None:
    made = tensor("a", pa.array([1.0, float("nan"), None]))
    assert orjson.loads(write_request(InferRequest(inputs=(made,)))[0])["inputs"][0]["data"] == [1.0, None, None]
    with pytest.raises(DataError, match="not finite"):
        write_request(InferRequest(inputs=(tensor("a", pa.array([math.inf])),)))


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
