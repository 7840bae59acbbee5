"""The laws of drift tests: what every kind in `drift_tests/`, here or in another package, must keep.

    @pytest.mark.parametrize("law", DRIFT_LAWS, ids=lambda law: law.__name__)
    def test_my_test_keeps_the_law(law): law(MyTest())

Each law takes a test with its default options and raises AssertionError with the law that is broken and where.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np

from raymlops.protocols import Drift, DriftTest
from raymlops.sketch import ColumnProfile, merge, profile_categories, profile_numbers
from raymlops.values import Float64

__all__ = [
    "DRIFT_LAWS",
    "a_clear_shift_is_found",
    "a_profile_is_left_as_it_was",
    "every_pair_has_a_finite_distance",
    "few_rows_raise_no_alarm",
    "halves_agree_with_the_whole",
    "no_change_is_no_drift",
    "no_rows_are_no_drift",
]


def no_change_is_no_drift(test: DriftTest) -> None:
    """A profile is at distance 0 from itself, also when it is degenerate."""
    for name, profile in _profiles().items():
        drift = test.compare(profile, profile)
        assert abs(drift.distance) < 1e-9, f"{name} against itself: distance {drift.distance}, 0 needed"
        assert not drift.drifted, f"{name} against itself: drifted"


def every_pair_has_a_finite_distance(test: DriftTest) -> None:
    """Distances are finite and not negative, limits finite and above 0, for every pair of profiles."""
    for (a, reference), (b, current) in product(_profiles().items(), repeat=2):
        drift = test.compare(reference, current)
        _sane(drift, f"{a} against {b}")


def no_rows_are_no_drift(test: DriftTest) -> None:
    """A period without rows, or a reference without rows, shows nothing."""
    for name, profile in _profiles().items():
        empty = replace(profile, rows=0, missing=0, sketch=b"", error=0, minimum=None, maximum=None, counts={}, other=0)
        for reference, current in ((profile, empty), (empty, profile)):
            assert not test.compare(reference, current).drifted, f"{name}: drifted without rows"


def few_rows_raise_no_alarm(test: DriftTest) -> None:
    """Samples of 20 rows of one distribution are flagged in at most 2 of 100 comparisons."""
    random = np.random.default_rng(0)
    reference = profile_numbers(random.normal(size=5_000))
    flags = [test.compare(reference, profile_numbers(random.normal(size=20))).drifted for _ in range(100)]
    assert sum(flags) <= 2, f"{sum(flags)} of 100 samples of 20 rows drifted"


def a_clear_shift_is_found(test: DriftTest) -> None:
    """Two standard deviations, another mix of categories and half of the rows gone missing are drift."""
    random = np.random.default_rng(0)
    numbers = random.normal(size=5_000)
    gone = np.where(np.arange(5_000) % 2 == 0, np.nan, numbers)
    mix = profile_categories({"a": 4_000, "b": 1_000}, missing=0)
    shifts = {
        "numbers moved by 2 deviations": (profile_numbers(numbers), profile_numbers(numbers + 2)),
        "numbers half missing": (profile_numbers(numbers), profile_numbers(gone)),
        "numbers all missing": (profile_numbers(numbers), profile_numbers(numbers * np.nan)),
        "a constant that fell": (profile_numbers(np.ones(5_000)), profile_numbers(np.zeros(5_000))),
        "a constant that rose": (profile_numbers(np.zeros(5_000)), profile_numbers(np.ones(5_000))),
        "categories swapped": (mix, profile_categories({"a": 1_000, "b": 4_000}, missing=0)),
        "categories half missing": (mix, profile_categories({"a": 2_000, "b": 500}, missing=2_500)),
        "categories all unseen": (mix, profile_categories({"z": 5_000}, missing=0)),
        "categories all uncounted": (mix, profile_categories({}, missing=0, other=5_000)),
    }
    for name, (reference, current) in shifts.items():
        drift = test.compare(reference, current)
        _sane(drift, name)
        assert drift.drifted, f"{name}: distance {drift.distance:.3g} is not over {drift.limit:.3g}"


def halves_agree_with_the_whole(test: DriftTest) -> None:
    """The merged profiles of two halves are as far from a reference as the profile of the whole, within 0.01."""
    random = np.random.default_rng(0)
    reference = random.normal(size=20_000)
    for name, rows in {
        "numbers": random.normal(0.3, 1.2, 20_000),
        "repeats": np.round(random.normal(size=20_000)),
    }.items():
        parts = merge(profile_numbers(rows[:7_000]), profile_numbers(rows[7_000:]))
        whole = test.compare(profile_numbers(reference), profile_numbers(rows)).distance
        merged = test.compare(profile_numbers(reference), parts).distance
        assert abs(whole - merged) <= 0.01, f"{name}: {merged:.4f} from halves, {whole:.4f} from the whole"


def a_profile_is_left_as_it_was(test: DriftTest) -> None:
    """Comparing changes neither side."""
    for name, profile in _profiles().items():
        before = profile.to_json()
        test.compare(profile, profile)
        assert profile.to_json() == before, f"{name}: changed by compare"


DRIFT_LAWS: tuple[Callable[[DriftTest], None], ...] = (
    no_change_is_no_drift,
    every_pair_has_a_finite_distance,
    no_rows_are_no_drift,
    few_rows_raise_no_alarm,
    a_clear_shift_is_found,
    halves_agree_with_the_whole,
    a_profile_is_left_as_it_was,
)


def _sane(drift: Drift, name: str) -> None:
    assert math.isfinite(drift.distance), f"{name}: distance {drift.distance}"
    assert drift.distance >= 0, f"{name}: distance {drift.distance}"
    assert math.isfinite(drift.limit), f"{name}: limit {drift.limit}"
    assert drift.limit > 0, f"{name}: limit {drift.limit}"


def _profiles() -> dict[str, ColumnProfile]:
    """Ordinary and degenerate columns of both kinds."""
    random = np.random.default_rng(0)
    numbers: dict[str, Float64] = {
        "normal": random.normal(size=3_000),
        "whole numbers": random.integers(0, 12, 3_000).astype(np.float64),
        "half zeros": np.where(random.random(3_000) < 0.5, 0.0, random.exponential(size=3_000)),
        "constant": np.full(500, 7.0),
        "two values": np.repeat([0.0, 1.0], 250),
        "all missing": np.full(500, np.nan),
        "one row": np.array([3.0]),
        "one missing row": np.array([np.nan]),
        "no rows": np.zeros(0),
        "infinities": np.array([np.inf, -np.inf, 1.0, np.nan]),
        "huge": np.array([-1e308, 1e308, 5e-324, 0.0]),
    }
    categories = {
        "categories": profile_categories({"a": 500, "b": 300, "c": 1}, missing=20),
        "one category": profile_categories({"a": 500}, missing=0),
        "other categories": profile_categories({"x": 500, "y": 3}, missing=0),
        "many categories": profile_categories({f"c{i}": 1 + i % 7 for i in range(2_000)}, missing=5),
        "uncounted categories": profile_categories({"a": 1}, missing=0, other=400),
        "all missing categories": profile_categories({}, missing=300),
        "no categories": profile_categories({}, missing=0),
    }
    return {**{name: profile_numbers(values) for name, values in numbers.items()}, **categories}
