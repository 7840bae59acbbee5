"""Rows of two tables that have the same key. Knows nothing of what else they hold."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raymlops.errors import DataError

__all__ = ["match"]


def match(left: pa.Table, right: pa.Table, *, by: Sequence[str]) -> np.ndarray:
    """Return for each row of `left` the row of `right` with the same key, -1 where there is none; int64 [rows].

    A null in a key matches nothing. Raise DataError when a key names more than one row of a side.
    """
    sides = []
    for name, side in (("left", left), ("right", right)):
        keys = pa.table({column: _plain(side.column(column), right.schema.field(column).type) for column in by})
        _refuse_repeated(keys, by)
        sides.append(keys.append_column(f"__{name}", pa.array(np.arange(side.num_rows))))
    pairs = sides[0].join(sides[1], keys=[*by], join_type="inner", use_threads=False)
    where = np.full(left.num_rows, -1, dtype=np.int64)
    where[pairs.column("__left").to_numpy()] = pairs.column("__right").to_numpy()
    return where


def _plain(column: pa.ChunkedArray, like: pa.DataType) -> pa.ChunkedArray:
    """A join takes no dictionaries and no null type, and both sides must be of one type."""
    wanted = like.value_type if pa.types.is_dictionary(like) else like
    return column.cast(pa.string() if pa.types.is_null(wanted) else wanted)


def _refuse_repeated(keys: pa.Table, by: Sequence[str]) -> None:
    held = keys.drop_null()
    found = held.group_by([*by], use_threads=False).aggregate([([], "count_all")])
    repeated = found.filter(pc.greater(found.column("count_all"), 1))
    if repeated.num_rows:
        example = ", ".join(f"{name}={repeated.column(name)[0].as_py()!r}" for name in by)
        raise DataError(
            f"data.key: {repeated.num_rows:,} keys name more than one row, such as {example}; answers cannot be "
            "joined to their rows, name columns that together name one row"
        )
