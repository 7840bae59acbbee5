"""Windows part the rows: in time by [from, to), in shares by the hash of the key."""

from datetime import date, datetime

import numpy as np
import pyarrow as pa
import pytest

from raymlops.data import columns_needed, in_window
from raymlops.errors import DataError
from raymlops.spec import DataSpec

SHARES = DataSpec(source="x", label="y", key=("id",), windows={"train": 0.6, "valid": 0.3, "rest": 0.1})


def _timed(**windows: tuple[date, date]) -> DataSpec:
    return DataSpec(source="x", label="y", time="day", windows=windows)


def test_shares_part_every_row_once() -> None:
    table = pa.table({"id": np.arange(20_000)})
    masks = [in_window(SHARES, name, table) for name in SHARES.windows]
    assert (np.sum(masks, axis=0) == 1).all()
    assert [mask.mean() for mask in masks] == pytest.approx([0.6, 0.3, 0.1], abs=0.02)


def test_a_row_lies_in_the_same_window_in_any_file() -> None:
    table = pa.table({"id": np.arange(1000), "other": np.random.default_rng(0).normal(size=1000)})
    whole = in_window(SHARES, "train", table)
    parts = np.concatenate([in_window(SHARES, "train", table.slice(start, 100)) for start in range(0, 1000, 100)])
    np.testing.assert_array_equal(whole, parts)
    assert columns_needed(SHARES, "train") == ("id",)


def test_a_window_in_time_holds_its_start_and_not_its_end() -> None:
    data = _timed(train=(date(2020, 1, 1), date(2020, 2, 1)))
    for kind in (pa.date32(), pa.timestamp("us"), pa.timestamp("ns", "UTC"), pa.string()):
        days = pa.array([date(2019, 12, 31), date(2020, 1, 1), date(2020, 1, 31), date(2020, 2, 1), None], pa.date32())
        table = pa.table({"day": days.cast(pa.timestamp("us")).cast(kind) if kind != pa.date32() else days})
        assert in_window(data, "train", table).tolist() == [False, True, True, False, False]


def test_moments_compare_in_utc_and_finer_than_microseconds() -> None:
    data = DataSpec.model_validate(
        {
            "source": "x",
            "label": "y",
            "time": "at",
            "windows": {"train": ["2020-01-01T02:00:00+02:00", datetime(2020, 1, 2)]},
        }
    )
    fine = np.array(["2019-12-31T23:59:59.999999999", "2020-01-01T00:00:00.000000001"], dtype="datetime64[ns]")
    for column in (pa.array(fine), pa.array(fine).cast(pa.timestamp("ns", "UTC")), pa.array(fine).cast(pa.string())):
        assert in_window(data, "train", pa.table({"at": column})).tolist() == [False, True]
    offset = pa.array(["2020-01-01T01:59:59+02:00", "2020-01-01T02:00:00+02:00"])
    assert in_window(data, "train", pa.table({"at": offset})).tolist() == [False, True]


def test_a_row_hashes_alike_beside_missing_keys_and_in_a_narrower_type() -> None:
    keys = pa.array([1, 2, -3, None, 2**40])
    alone = [in_window(SHARES, "train", pa.table({"id": keys.slice(i, 1)}))[0] for i in range(5)]
    assert in_window(SHARES, "train", pa.table({"id": keys})).tolist() == alone
    small = keys.slice(0, 4).cast(pa.int16())
    assert in_window(SHARES, "train", pa.table({"id": small})).tolist() == alone[:4]


def test_shares_of_rows_that_cannot_be_hashed_are_refused() -> None:
    data = DataSpec(source="x", label="y", windows={"train": 1.0})
    with pytest.raises(DataError, match=r"column 'v' is list<item: int64>; name the columns .* in data\.key"):
        in_window(data, "train", pa.table({"v": [[1], [2]]}))


def test_a_time_column_of_another_type_is_refused() -> None:
    data = _timed(train=(date(2020, 1, 1), date(2020, 2, 1)))
    with pytest.raises(DataError, match="is int64; a date, a timestamp or text of one is needed"):
        in_window(data, "train", pa.table({"day": [1, 2]}))
    with pytest.raises(DataError, match="text that is not a time"):
        in_window(data, "train", pa.table({"day": ["soon"]}))


def test_two_moments_are_a_window_in_time_by_themselves_also_beside_shares() -> None:
    data = DataSpec(source="x", label="y", time="day", key=("id",), windows={"train": 1.0})
    table = pa.table({"day": pa.array([datetime(2020, 1, 1, hour) for hour in (2, 3, 4)])})

    assert in_window(data, "2020-01-01T03:00/2020-01-01T04:00", table).tolist() == [False, True, False]
    assert columns_needed(data, "2020-01-01/2020-01-02") == ("day",)
    assert columns_needed(data, "train") == ("id",)
