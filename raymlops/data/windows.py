"""Which rows belong to a named window. Pure: the same row gives the same answer in any file and on any machine."""

from datetime import datetime, time

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raymlops.errors import DataError
from raymlops.spec import DataSpec

__all__ = ["columns_needed", "in_window"]


def columns_needed(data: DataSpec) -> tuple[str, ...] | None:
    """Return the columns that decide about windows; None when the whole row does."""
    if any(isinstance(window, tuple) for window in data.windows.values()):
        assert data.time is not None
        return (data.time,)
    return data.key or None


def in_window(data: DataSpec, on: str, table: pa.Table) -> npt.NDArray[np.bool_]:
    """Return a mask over the rows of a table: whether they lie in the window named `on`.

    A share takes the rows whose hash of the key falls in its part of [0, 1), in the order the windows are written.
    """
    window = data.windows[on]
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


def _between(data: DataSpec, table: pa.Table, window: tuple[object, object]) -> npt.NDArray[np.bool_]:
    assert data.time is not None
    column = table.column(data.time)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        try:
            column = column.cast(pa.timestamp("us"))
        except pa.ArrowException as error:
            raise DataError(f"data.time: column {data.time!r} holds text that is not a time: {error}") from error
    if not (pa.types.is_date(column.type) or pa.types.is_timestamp(column.type)):
        raise DataError(f"data.time: column {data.time!r} is {column.type}, a date or timestamp is needed")
    zone = column.type.tz if pa.types.is_timestamp(column.type) else None
    moments = column.cast(pa.timestamp("us", tz=zone))
    low, high = (pa.scalar(_midnight(bound), pa.timestamp("us", tz=zone)) for bound in window)
    inside = pc.and_(pc.greater_equal(moments, low), pc.less(moments, high))
    return np.asarray(pc.fill_null(inside, False).to_numpy(), dtype=np.bool_)


def _midnight(bound: object) -> object:
    return bound if isinstance(bound, datetime) else datetime.combine(bound, time.min)  # type: ignore[arg-type]


def _place(data: DataSpec, table: pa.Table) -> npt.NDArray[np.float64]:
    from pandas.util import hash_pandas_object

    frame = (table.select([*data.key]) if data.key else table).to_pandas()
    return np.asarray(hash_pandas_object(frame, index=False), dtype=np.uint64).astype(np.float64) / 2.0**64
