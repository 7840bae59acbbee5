"""A column of dates or times as moments that compare. Knows nothing of windows and periods."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raymlops.errors import DataError

__all__ = ["NO_MOMENT", "microseconds", "moments"]

NO_MOMENT = int(np.iinfo(np.int64).min)
_MOMENT = pa.timestamp("us")


def moments(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return timestamps in microseconds, UTC, without a zone; a column without a zone is taken as it stands.

    Raise DataError when the column holds neither dates, timestamps nor texts of them (ISO 8601).
    """
    given = column.type
    if pa.types.is_string(given) or pa.types.is_large_string(given):
        return _parsed(column)
    if not (pa.types.is_date(given) or pa.types.is_timestamp(given)):
        raise DataError(f"data.time: the column is {given}; a date, a timestamp or text of one is needed")
    # What is finer than a microsecond is cut off: no bound is so fine.
    return column.cast(_MOMENT, safe=False)


def microseconds(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Return `moments` as numbers since 1970, `NO_MOMENT`, before all of them, where there is none."""
    return np.asarray(moments(column).cast(pa.int64()).fill_null(NO_MOMENT), dtype=np.int64)


def _parsed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    causes = []
    for kind in (pa.timestamp("ns"), pa.timestamp("us"), pa.timestamp("ns", "UTC")):
        try:
            return column.cast(kind).cast(_MOMENT, safe=False)
        except pa.ArrowException as error:
            causes.append(str(error))
    raise DataError(f"data.time: the column holds text that is not a time: {causes[0]}")
