"""Rows as a person has them, as a table. Knows nothing of endpoints."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

from raymlops.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Rows", "columns_of"]

Rows: TypeAlias = "pa.Table | pd.DataFrame | Sequence[Mapping[str, Any]]"


def columns_of(rows: Rows, names: Sequence[str]) -> pa.Table:
    """Return the named columns that the rows have; what a row lacks, None and NaN become null.

    Raise DataError naming each column whose values are not of one type, and for rows of any other kind.

    >>> columns_of([{"a": 1, "z": 9}, {"a": None}], ["a", "b"]).to_pydict()
    {'a': [1, None]}
    """
    if isinstance(rows, pa.Table):
        twice = [name for name in names if rows.column_names.count(name) > 1]
        if twice:
            raise DataError(*(f"column {name!r}: is there twice; keep one" for name in twice))
        return rows.select([name for name in names if name in rows.column_names])
    values = _lists(rows, names)
    arrays: dict[str, pa.Array] = {}
    problems = []
    for name, column in values.items():
        try:
            arrays[name] = pa.array(column, from_pandas=True)
        except (pa.ArrowException, UnicodeError, OverflowError, TypeError, ValueError) as error:
            problems.append(f"column {name!r}: cannot be sent as values of one type: {error}")
    if problems:
        raise DataError(*problems)
    return pa.table(arrays)


def _lists(rows: Any, names: Sequence[str]) -> dict[str, Any]:
    # A DataFrame is told by what it can do: pandas is not imported for one who does not use it.
    if hasattr(rows, "columns") and hasattr(rows, "iloc"):
        return {name: rows[name] for name in names if name in rows.columns}
    if not isinstance(rows, Sequence) or isinstance(rows, str | bytes):
        raise DataError(f"rows: {type(rows).__name__} given; a pyarrow.Table, DataFrame or list of dicts is needed")
    wrong = next((i for i, row in enumerate(rows) if not isinstance(row, Mapping)), None)
    if wrong is not None:
        raise DataError(f"rows[{wrong}]: {type(rows[wrong]).__name__} given; every row is a dict of column and value")
    return {name: [row.get(name) for row in rows] for name in names if any(name in row for row in rows)}
