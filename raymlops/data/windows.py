"""Which rows belong to a named window. Pure: the same row gives the same answer in any file and on any machine."""

from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raymlops.data.moments import moments
from raymlops.errors import DataError
from raymlops.spec import DataSpec

__all__ = ["columns_needed", "in_window", "row_hashes"]

_NO_INTEGER = -(2**63)


def columns_needed(data: DataSpec, on: str | None) -> tuple[str, ...] | None:
    """Return the columns that decide about the window named `on`, none without one; None when the whole row does."""
    if on is None:
        return ()
    if isinstance(data.window(on, where="data.windows"), tuple):
        assert data.time is not None
        return (data.time,)
    return data.key or None


def in_window(data: DataSpec, on: str, table: pa.Table) -> npt.NDArray[np.bool_]:
    """Return a mask over the rows of a table: whether they lie in the window named `on`, which may be FROM/TO.

    A share takes the rows whose hash of the key falls in its part of [0, 1), in the order the windows are written.
    """
    window = data.window(on, where="data.windows")
    if isinstance(window, tuple):
        return _between(data, table, window)
    low = 0.0
    for name, share in data.windows.items():
        assert isinstance(share, float)
        if name == on:
            place = _place(data, table)
            # The last window ends at 1 whatever the rounding of the sum.
            high = low + share
            return (place >= low) & ((place < high) | (high > 1 - 1e-9))
        low += share
    raise AssertionError(on)


def _between(data: DataSpec, table: pa.Table, window: tuple[datetime, datetime]) -> npt.NDArray[np.bool_]:
    assert data.time is not None
    times = moments(table.column(data.time))
    low, high = (pa.scalar(bound, times.type) for bound in window)
    inside = pc.and_(pc.greater_equal(times, low), pc.less(times, high))
    return np.asarray(pc.fill_null(inside, False).to_numpy(), dtype=np.bool_)


def row_hashes(table: pa.Table) -> npt.NDArray[np.uint64]:
    """Return a hash of each row of a table, the same in any file and on any machine."""
    from pandas.util import hash_pandas_object

    frame = pa.table({name: _hashable(name, table.column(name)) for name in table.column_names}).to_pandas()
    return np.asarray(hash_pandas_object(frame, index=False), dtype=np.uint64)


def _place(data: DataSpec, table: pa.Table) -> npt.NDArray[np.float64]:
    return row_hashes(table.select([*(data.key or table.column_names)])).astype(np.float64) / 2.0**64


def _hashable(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the column so that equal values hash alike whatever stands around them and however wide they are kept."""
    if pa.types.is_integer(column.type) or pa.types.is_boolean(column.type):
        # In a column with a missing value pandas would hold floats, which hash otherwise.
        return column.cast(pa.int64(), safe=False).fill_null(_NO_INTEGER)
    if pa.types.is_floating(column.type):
        return column.cast(pa.float64())
    try:
        return column.cast(pa.string())
    except pa.ArrowException as error:
        raise DataError(
            f"data.windows: shares need values that can be hashed, column {name!r} is {column.type}; "
            "name the columns that tell rows apart in data.key"
        ) from error
