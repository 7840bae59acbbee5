"""Folds share no row between fitting and judging, no group, and by time nothing comes from later."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymlops.data.folds import folds
from raymlops.data.windows import in_window
from raymlops.errors import DataError
from raymlops.spec import DataSpec, FoldsSpec

DAY = 86_400_000_000


def key_rows(groups: list[int]) -> pa.Table:
    return pa.table({"customer": pa.array(groups, pa.int64())})


@given(st.lists(st.integers(0, 60), min_size=300, max_size=500), st.integers(2, 5))
def test_every_row_is_judged_once_and_a_group_is_never_on_both_sides(groups: list[int], count: int) -> None:
    rows = key_rows([*range(61), *groups])
    made = folds(FoldsSpec(count=count), rows, np.zeros(len(rows)), classes=0)
    assert sorted(np.concatenate([fold.judge for fold in made])) == [*range(len(rows))]
    of = np.asarray(rows.column(0))
    for fold in made:
        assert not set(of[fold.fit]) & set(of[fold.judge])
        assert len(fold.fit) + len(fold.judge) == len(rows)


def test_folds_by_key_do_not_know_of_windows_which_come_of_the_same_hash() -> None:
    rows = pa.table({"id": np.arange(40_000)})
    data = DataSpec.model_validate({"source": {"csv": "a"}, "label": "y", "key": ["id"]})
    inside = rows.filter(pa.array(in_window(data, "train", rows)))
    made = folds(FoldsSpec(count=4), inside, np.zeros(len(inside)), classes=0)
    assert max(abs(len(fold.judge) / len(inside) - 0.25) for fold in made) < 0.02


@given(
    st.lists(st.integers(0, 400), min_size=60, max_size=120, unique=True),
    st.integers(2, 5),
    st.sampled_from([0.0, 2.0, 2.5]),
)
def test_by_time_a_fold_is_fitted_on_what_came_before_alone(days: list[int], count: int, gap: float) -> None:
    """Three rows a day, one without a time; rows of one moment lie on one side."""
    times = np.array([day * DAY for day in days for _ in range(3)])
    column = pa.array([*times.tolist(), None], pa.timestamp("us"))
    made = folds(
        FoldsSpec(count=count, by="time", gap_days=gap), pa.table({"t": column}), np.zeros(len(column)), classes=0
    )
    judged = np.concatenate([fold.judge for fold in made])
    assert len(set(judged)) == len(judged)
    assert len(times) not in judged
    for fold in made:
        assert times[fold.fit].max() < times[fold.judge].min() - gap * DAY
        assert len(times) not in fold.fit
    before, after = (times[made[at].judge] for at in (0, 1))
    assert before.max() < after.min()
    sizes = [len(fold.judge) for fold in made]
    assert max(sizes) - min(sizes) <= 6


def test_a_fold_that_cannot_be_judged_is_refused() -> None:
    rows, y = key_rows([*range(40)]), np.array([1.0, *[0.0] * 39])
    with pytest.raises(DataError, match="one class of the label"):
        folds(FoldsSpec(count=4), rows, y, classes=2)
    with pytest.raises(DataError, match=r"fold . has no row to (fit|judge) on, of 2"):
        folds(FoldsSpec(count=8), key_rows([1, 2]), np.zeros(2), classes=0)
    same = pa.table({"t": pa.array([5, 5, 5], pa.timestamp("us"))})
    with pytest.raises(DataError, match="has no row to fit on"):
        folds(FoldsSpec(count=2, by="time"), same, np.zeros(3), classes=0)
    none = pa.table({"t": pa.array([None, None], pa.timestamp("us"))})
    with pytest.raises(DataError, match="no row has a time"):
        folds(FoldsSpec(count=2, by="time"), none, np.zeros(2), classes=0)
