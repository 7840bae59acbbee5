"""What the screen lets pass is what `encode` returns; what breaks a rule it never lets pass."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raymlops.contract import Contract, Feature, Label, Screen, encode

NUMBERS = [0.0, 1.0, -1.0, 2.0, 0.5, 3.0, 1e-50, 3.5e38, -4e38, float("inf"), float("-inf"), float("nan"), 0.1]
TEXTS = ["a", "b", "c", "nowhere", None]
TYPES: dict[str, tuple[list[Any], list[pa.DataType]]] = {
    "number": ([*NUMBERS, None], [pa.float64(), pa.float32()]),
    "integer": ([0, 1, -1, 7, 2**53 + 1, None], [pa.int64(), pa.float64()]),
    "boolean": ([True, False, None], [pa.bool_()]),
    "category": (TEXTS, [pa.string()]),
}


@st.composite
def features(draw: st.DrawFn) -> tuple[Feature, ...]:
    kinds = draw(st.lists(st.sampled_from([*TYPES]), min_size=1, max_size=5))
    bound = st.one_of(st.none(), st.sampled_from([-1.0, 0.0, 0.1, 1.0, 7.0]))
    return tuple(
        Feature(
            name=f"f{i}",
            type=kind,  # type: ignore[arg-type]
            nullable=draw(st.booleans()),
            minimum=draw(bound) if kind in ("number", "integer") else None,
            maximum=draw(bound) if kind in ("number", "integer") else None,
            categories=("a", "b", "c") if kind == "category" else (),
            unknown=draw(st.sampled_from(["reject", "missing"])),
        )
        for i, kind in enumerate(kinds)
    )


@st.composite
def tables(draw: st.DrawFn) -> tuple[Contract, dict[str, pa.Array]]:
    made, rows = draw(features()), draw(st.integers(1, 4))
    columns = {}
    for feature in made:
        values, types = TYPES[feature.type]
        drawn = draw(st.lists(st.sampled_from(values), min_size=rows, max_size=rows))
        kind = draw(st.sampled_from(types))
        columns[feature.name] = pa.array(drawn, types[0]).cast(kind, safe=False)
    return Contract(features=made, label=Label(name="y", task="regression")), columns


@settings(max_examples=600, deadline=None)
@given(tables())
def test_columns_pass_only_as_encode_would_return_them(drawn: tuple[Contract, dict[str, pa.Array]]) -> None:
    contract, columns = drawn
    passed, encoded = Screen.of(contract).columns(columns), encode(contract, columns)
    if passed is None:
        return
    assert encoded.violations == ()
    np.testing.assert_array_equal(passed, encoded.x)
    assert passed.dtype == np.float32
    assert passed.flags.c_contiguous


@settings(max_examples=300, deadline=None)
@given(tables())
def test_rows_that_break_no_rule_and_are_plain_always_pass(drawn: tuple[Contract, dict[str, pa.Array]]) -> None:
    contract, columns = drawn
    encoded = encode(contract, columns)
    unknown = any(f.type == "category" and f.unknown == "missing" for f in contract.features)
    missing = any(column.type == pa.bool_() and column.null_count for column in columns.values())
    if not encoded.violations and not unknown and not missing:
        assert Screen.of(contract).columns(columns) is not None


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_matrix_holds_categories_as_whole_indices_in_range(dtype: type) -> None:
    contract = Contract(
        features=(
            Feature(name="n", type="number", nullable=True, maximum=0.1),
            Feature(name="c", type="category", nullable=False, categories=("a", "b")),
        ),
        label=Label(name="y", task="regression"),
    )
    screen = Screen.of(contract)
    good: np.ndarray = np.array([[np.nan, 1], [0.05, 0]], dtype)
    passed = screen.matrix(good)
    assert passed is not None
    np.testing.assert_array_equal(passed, good.astype(np.float32))
    for wrong in ([0.0, 2], [0.0, -1], [0.0, 0.5], [0.0, np.nan], [0.2, 1], [np.inf, 1], [-np.inf, 1]):
        assert screen.matrix(np.array([wrong], dtype)) is None, wrong


def test_a_column_that_is_missing_or_of_another_length_or_type_is_left_to_encode() -> None:
    contract = Contract(
        features=(Feature(name="a", type="number", nullable=True), Feature(name="b", type="number", nullable=True)),
        label=Label(name="y", task="regression"),
    )
    screen, one = Screen.of(contract), pa.array([1.0])
    assert screen.columns({"a": one, "b": one}) is not None
    for columns in ({}, {"a": one}, {"a": one, "b": pa.array([1.0, 2.0])}, {"a": one, "b": pa.array(["1"])}):
        assert screen.columns(columns) is None
