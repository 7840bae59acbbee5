"""Profiles merge like the rows they stand for, and their stated error holds for every input."""

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from raymlops.sketch import ColumnProfile, merge, profile_categories, profile_numbers
from raymlops.values import Float64

numbers = st.one_of(
    arrays(
        np.float64, st.integers(0, 60), elements=st.floats(-1e300, 1e300) | st.sampled_from([np.nan, np.inf, -np.inf])
    ),
    arrays(np.float64, st.integers(0, 60), elements=st.integers(-3, 3).map(float)),
)
long_columns = st.builds(
    lambda seed, rows, whole: np.round(np.random.default_rng(seed).standard_cauchy(rows), 1 if whole else 12),
    st.integers(0, 2**32 - 1),
    st.integers(1_001, 6_000),
    st.booleans(),
)
counts = st.dictionaries(st.sampled_from("abcde"), st.integers(0, 9))


def _true_cdf(values: Float64, at: Float64) -> Float64:
    present = np.sort(values[np.isfinite(values)])
    return np.searchsorted(present, at, side="right") / max(len(present), 1)


def _points(values: Float64) -> Float64:
    present = values[np.isfinite(values)]
    return np.concatenate([present, np.nextafter(present, -np.inf), np.nextafter(present, np.inf)])


@given(numbers)
def test_up_to_a_thousand_distinct_numbers_are_exact(values: Float64) -> None:
    profile = profile_numbers(values)
    assert profile.error == 0
    assert profile.missing == int((~np.isfinite(values)).sum())
    assert profile.cdf(_points(values)) == pytest.approx(_true_cdf(values, _points(values)), abs=1e-12)


@given(long_columns)
@settings(max_examples=30, deadline=None)
def test_the_stated_error_holds_at_every_point(values: Float64) -> None:
    profile = profile_numbers(values)
    off = np.abs(profile.cdf(_points(values)) - _true_cdf(values, _points(values))).max()
    assert off <= profile.error / profile.present + 1e-12
    assert profile.error <= len(values) / 1_000 + 1
    assert len(profile.sketch) <= 16_000


@given(st.lists(long_columns, min_size=2, max_size=4))
@settings(max_examples=20, deadline=None)
def test_the_stated_error_holds_after_merging(parts: list[Float64]) -> None:
    whole = np.concatenate(parts)
    for merged in (merge(*map(profile_numbers, parts)), _one_by_one(parts)):
        off = np.abs(merged.cdf(_points(whole)) - _true_cdf(whole, _points(whole))).max()
        assert off <= merged.error / merged.present + 1e-12
        assert len(merged.sketch) <= 16_000


def _one_by_one(parts: list[Float64]) -> ColumnProfile:
    merged = profile_numbers(parts[0])
    for part in parts[1:]:
        merged = merge(merged, profile_numbers(part))
    return merged


@given(numbers, numbers)
def test_merging_is_profiling_both_where_profiles_are_exact(a: Float64, b: Float64) -> None:
    assert merge(profile_numbers(a), profile_numbers(b)) == profile_numbers(np.concatenate([a, b]))


@given(long_columns, long_columns, long_columns)
@settings(max_examples=15, deadline=None)
def test_the_order_of_merging_at_once_does_not_matter(a: Float64, b: Float64, c: Float64) -> None:
    first, second, third = profile_numbers(a), profile_numbers(b), profile_numbers(c)
    assert merge(first, second, third) == merge(third, first, second)


@given(long_columns)
@settings(max_examples=10, deadline=None)
def test_an_empty_part_does_not_change_the_profile(values: Float64) -> None:
    profile = profile_numbers(values)
    assert merge(profile, profile_numbers(np.zeros(0))) == profile


@given(long_columns, st.integers(0, 100))
@settings(max_examples=15, deadline=None)
def test_equal_rows_in_any_order_give_equal_bytes(values: Float64, seed: int) -> None:
    shuffled = np.random.default_rng(seed).permutation(values)
    assert orjson.dumps(profile_numbers(shuffled).to_json()) == orjson.dumps(profile_numbers(values).to_json())


@given(long_columns, st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_a_quantile_has_its_share_at_or_below_it(values: Float64, rank: float) -> None:
    profile = profile_numbers(values)
    found = profile.quantiles(np.array([rank]))
    slack = profile.error / profile.present + 1e-12
    assert _true_cdf(values, found)[0] >= rank - slack
    assert _true_cdf(values, np.nextafter(found, -np.inf))[0] <= rank + slack


@given(counts, st.integers(0, 5), counts, st.integers(0, 5), st.integers(0, 5))
def test_counts_add_up(a: dict[str, int], missing_a: int, b: dict[str, int], missing_b: int, other: int) -> None:
    merged = merge(profile_categories(a, missing=missing_a), profile_categories(b, missing=missing_b, other=other))
    assert dict(merged.counts) == {k: n for k in sorted({*a, *b}) if (n := a.get(k, 0) + b.get(k, 0))}
    assert merged.other == other
    assert merged.rows == sum(a.values()) + sum(b.values()) + missing_a + missing_b + other


@given(numbers)
def test_numbers_survive_json(values: Float64) -> None:
    profile = profile_numbers(values)
    assert ColumnProfile.from_json(orjson.loads(orjson.dumps(profile.to_json()))) == profile


def test_categories_survive_json() -> None:
    profile = profile_categories({"a": 3}, missing=1, other=2)
    assert ColumnProfile.from_json(orjson.loads(orjson.dumps(profile.to_json()))) == profile


def test_numbers_do_not_merge_with_categories() -> None:
    with pytest.raises(ValueError, match="does not merge"):
        merge(profile_numbers(np.zeros(1)), profile_categories({"a": 1}, missing=0))


@pytest.mark.parametrize("values", [[], [np.nan], [np.inf, -np.inf]], ids=["no rows", "missing", "infinite"])
def test_a_column_without_a_number_has_no_quantile(values: list[float]) -> None:
    profile = profile_numbers(np.array(values, dtype=np.float64))
    assert profile.minimum is None
    assert len(profile.quantiles(np.array([0.5]))) == 0
    assert profile.cdf(np.array([0.0])).tolist() == [0.0]
