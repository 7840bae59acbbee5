"""A table is profiled as its contract reads it, whatever its columns hold."""

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raymlops.contract import Contract, Feature, Label, profile_parts, profile_table
from raymlops.errors import DataError
from raymlops.sketch import merge

CONTRACT = Contract(
    features=(
        Feature(name="size", type="number", nullable=True),
        Feature(name="kind", type="category", nullable=True, categories=("1", "2", "x")),
    ),
    label=Label(name="y", task="binary", classes=("0", "1")),
)


def _table(size: Any, kind: Any) -> pa.Table:
    return pa.table({"size": size, "kind": kind, "ignored": pa.nulls(len(size))})


def test_null_nan_and_infinities_are_missing_in_numbers_and_in_categories() -> None:
    odd = pa.array([1.0, None, np.nan, np.inf, -np.inf, 2.0], from_pandas=False)
    profiles = profile_table(CONTRACT, _table(odd, odd))
    assert (profiles["size"].rows, profiles["size"].missing) == (6, 4)
    assert (profiles["kind"].rows, profiles["kind"].missing) == (6, 4)
    assert dict(profiles["kind"].counts) == {"1": 1, "2": 1}


def test_categories_that_the_contract_does_not_name_are_counted_together() -> None:
    profile = profile_table(CONTRACT, _table(np.zeros(1_000), [f"c{i}" for i in range(999)] + ["x"]))["kind"]
    assert dict(profile.counts) == {"x": 1}
    assert profile.other == 999


@pytest.mark.parametrize(
    ("size", "kind", "counted"),
    [
        ([True, False], pa.array(["x", "x"]).dictionary_encode(), {"x": 2}),
        ([Decimal("1.5"), None], [1, 2], {"1": 1, "2": 1}),
        (pa.array([1, None], pa.int8()), [1.0, None], {"1": 1}),
        (pa.chunked_array([[1.0], [2.0]]), pa.chunked_array([["x"], ["2"]]), {"x": 1, "2": 1}),
        (pa.nulls(2), pa.nulls(2), {}),
        (np.zeros(0), pa.array([], pa.string()), {}),
    ],
    ids=["boolean", "decimal", "integer", "chunks", "null type", "no rows"],
)
def test_every_type_that_fits_is_profiled(size: Any, kind: Any, counted: dict[str, int]) -> None:
    profiles = profile_table(CONTRACT, _table(size, kind))
    assert dict(profiles["kind"].counts) == counted
    assert profiles["size"].rows == len(size)


def test_parts_merge_to_the_whole() -> None:
    random = np.random.default_rng(0)
    whole = _table(random.integers(0, 90, 500).astype(float), random.choice(["1", "2", "z"], 500).tolist())
    parts = [profile_table(CONTRACT, whole.slice(start, 130)) for start in range(0, 500, 130)]
    for name, profile in profile_table(CONTRACT, whole).items():
        assert merge(*(part[name] for part in parts)) == profile
    assert profile_parts(CONTRACT, (whole.slice(start, 130) for start in range(0, 500, 130))) == profile_table(
        CONTRACT, whole
    )
    assert profile_parts(CONTRACT, [whole]) == profile_table(CONTRACT, whole)


def test_every_column_that_cannot_be_profiled_is_named() -> None:
    with pytest.raises(DataError) as caught:
        profile_table(CONTRACT, pa.table({"size": ["a"], "kinds": ["x"]}))
    first, second = caught.value.problems
    assert "'size': type string given, number needed" in first
    assert "'kind': is missing; did you mean 'kinds'?" in second
