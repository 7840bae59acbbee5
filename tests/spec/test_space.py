"""Draws lie in their range and repeat."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymlops.spec import Distribution


@given(st.floats(1e-6, 1e3), st.floats(1.001, 1e3), st.integers(0, 2**32 - 1))
def test_a_draw_lies_in_its_range_and_repeats(low: float, factor: float, seed: int) -> None:
    for kind in ("uniform", "log"):
        made = Distribution.model_validate({kind: (low, low * factor)})
        first = made.draw(np.random.default_rng(seed))
        assert isinstance(first, float)
        assert low * (1 - 1e-9) <= first <= low * factor * (1 + 1e-9)
        assert first == made.draw(np.random.default_rng(seed))


def test_integers_reach_both_ends() -> None:
    random = np.random.default_rng(0)
    assert {Distribution(integers=(2, 4)).draw(random) for _ in range(100)} == {2, 3, 4}


def test_a_choice_may_hold_lists() -> None:
    assert Distribution(choice=([64, 32],)).draw(np.random.default_rng(0)) == [64, 32]


def test_an_infinite_range_is_refused() -> None:
    with pytest.raises(ValueError, match="holds nothing"):
        Distribution(uniform=(0.0, float("inf")))
