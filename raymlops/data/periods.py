"""Which period of time a row belongs to. Knows nothing of models or drift."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raymlops.data.moments import moments

__all__ = ["Period", "period_names", "split"]

Period = Literal["day", "week", "month", "all"]
_FORMAT = {"day": "%Y-%m-%d", "week": "%G-W%V", "month": "%Y-%m"}


def period_names(column: pa.ChunkedArray, period: Period) -> pa.Array:
    """Return the name of each row's period, in UTC: `2013-07-04`, `2013-W27` (ISO 8601), `2013-07`, or `all`.

    A row without a time is in the period `no time`. Raise DataError when the column does not hold moments.
    """
    if period == "all":
        return pa.repeat("all", len(column))
    return pc.fill_null(pc.strftime(moments(column), format=_FORMAT[period]), "no time").combine_chunks()


def split(table: pa.Table, names: pa.Array) -> Iterator[tuple[str, pa.Table]]:
    """Give each period's name and its rows, in the order of the names; the order of rows stays."""
    if table.num_rows == 0:
        return
    found, codes = np.unique(np.asarray(names.to_pylist()), return_inverse=True)
    ordered = table.take(np.argsort(codes, kind="stable"))
    start = 0
    for name, rows in zip(found, np.bincount(codes), strict=True):
        yield str(name), ordered.slice(start, rows)
        start += int(rows)
