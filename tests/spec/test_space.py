"""A coordinate of a dimension is a value of its range."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymlops.spec import Distribution
from raymlops.values import Dimension


@given(st.floats(1e-6, 1e3), st.floats(1.001, 1e3), st.floats(0, 1))
def test_a_value_lies_in_its_range(low: float, factor: float, at: float) -> None:
    for kind in ("uniform", "log"):
        made = Distribution.model_validate({kind: (low, low * factor)})
        assert made.dimension == Dimension()
        value = made.value(at)
        assert isinstance(value, float)
        assert low * (1 - 1e-9) <= value <= low * factor * (1 + 1e-9)


def test_the_middle_of_a_logarithm_is_the_geometric_mean() -> None:
    assert Distribution(log=(0.01, 1.0)).value(0.5) == pytest.approx(0.1)


def test_integers_reach_both_ends() -> None:
    made = Distribution(integers=(2, 4))
    assert made.dimension == Dimension(size=3)
    assert [made.value(at) for at in range(3)] == [2, 3, 4]


def test_a_choice_may_hold_lists_and_has_no_order() -> None:
    made = Distribution(choice=([64, 32], "none"))
    assert made.dimension == Dimension(size=2, ordered=False)
    assert [made.value(0), made.value(1)] == [[64, 32], "none"]


def test_an_infinite_range_is_refused() -> None:
    with pytest.raises(ValueError, match="holds nothing"):
        Distribution(uniform=(0.0, float("inf")))
