"""Distances keep their bounds, and chance exceeds the stated noise as rarely as stated."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from raymlops.stats import ks_distance, ks_noise, psi, psi_noise, total_variation, total_variation_noise
from raymlops.values import Float64

counts = arrays(np.float64, 6, elements=st.integers(0, 1_000).map(float))


@given(counts, counts)
def test_distances_are_finite_symmetric_and_not_negative(a: Float64, b: Float64) -> None:
    for distance in (psi, total_variation):
        assert math.isfinite(distance(a, b))
        assert distance(a, b) >= -1e-12
        assert distance(a, b) == pytest.approx(distance(b, a))
    assert total_variation(a, b) <= 1


@given(counts, st.integers(1, 1_000))
def test_equal_shares_are_at_distance_zero_whatever_the_number_of_rows(a: Float64, times: int) -> None:
    assert psi(a, a * times) == pytest.approx(0, abs=1e-9)
    assert total_variation(a, a * times) == pytest.approx(0, abs=1e-9)


def test_psi_is_the_sum_of_its_definition_where_counts_are_large() -> None:
    p, q = np.array([0.2, 0.3, 0.5]), np.array([0.25, 0.35, 0.4])
    assert psi(p * 1e7, q * 1e7) == pytest.approx(float(np.sum((q - p) * np.log(q / p))), rel=1e-4)


def test_a_rare_bin_that_a_small_sample_misses_is_no_shift() -> None:
    reference = np.array([1e6, *[3.0] * 20])
    assert psi(reference, np.array([50.0, *[0.0] * 20])) < 0.001


def test_ks_is_the_largest_gap() -> None:
    assert ks_distance(np.array([0.1, 0.5, 1.0]), np.array([0.3, 0.4, 1.0])) == pytest.approx(0.2)
    assert ks_distance(np.zeros(0), np.zeros(0)) == 0


@pytest.mark.parametrize(("n", "m"), [(200, 200), (5_000, 100)])
def test_chance_exceeds_the_noise_as_rarely_as_stated(n: int, m: int) -> None:
    """2,000 comparisons at alpha 0.05: the measured shares are about 0.05 for psi and 0 for total variation."""
    random = np.random.default_rng(0)
    shares = np.array([0.1, 0.15, 0.2, 0.25, 0.3])
    over = {"psi": 0, "total variation": 0}
    for _ in range(2_000):
        a, b = (random.multinomial(rows, shares).astype(np.float64) for rows in (n, m))
        over["psi"] += psi(a, b) > psi_noise(5, n, m, alpha=0.05)
        over["total variation"] += total_variation(a, b) > total_variation_noise(shares, n, m, alpha=0.05)
    assert 0.03 <= over["psi"] / 2_000 <= 0.07
    assert over["total variation"] / 2_000 <= 0.05


def test_chance_exceeds_the_ks_noise_as_rarely_as_stated() -> None:
    """2,000 comparisons at alpha 0.05; Smirnov's bound is a little too high, never too low."""
    random = np.random.default_rng(0)
    over = 0
    for _ in range(2_000):
        a, b = np.sort(random.random(300)), np.sort(random.random(200))
        at = np.concatenate([a, b])
        gap = ks_distance(np.searchsorted(a, at, side="right") / 300, np.searchsorted(b, at, side="right") / 200)
        over += gap > ks_noise(300, 200, alpha=0.05)
    assert 0.02 <= over / 2_000 <= 0.05


def test_without_rows_everything_is_noise() -> None:
    assert math.isinf(psi_noise(3, 0, 10, alpha=0.05))
    assert math.isinf(ks_noise(10, 0, alpha=0.05))
    assert math.isinf(total_variation_noise(np.ones(1), 0, 0, alpha=0.05))


def test_more_rows_are_less_noise() -> None:
    for rows in (10, 100, 1_000):
        assert psi_noise(10, rows * 10, rows * 10, alpha=0.01) < psi_noise(10, rows, rows, alpha=0.01)
        assert ks_noise(rows * 10, rows * 10, alpha=0.01) < ks_noise(rows, rows, alpha=0.01)
