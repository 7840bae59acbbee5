"""Put the columns of a source together from those of a file and those that are one value for all its rows."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from raymlops.errors import DataError

__all__ = ["completed", "held", "why"]


def held(columns: Sequence[str], own: Sequence[str], constants: Mapping[str, pa.Scalar], *, where: str) -> list[str]:
    """Return which of the columns to read of a file that has `own`: one at least, for it tells the number of rows.

    `where` names the file. Raise DataError that names the columns which are neither in the file nor constants.
    """
    if not own:
        raise DataError(f"{where}: has no columns")
    absent = [name for name in columns if name not in own and name not in constants]
    if absent:
        raise DataError(f"{where}: has no column {', '.join(absent)}; it has {', '.join([*own, *constants])}")
    return [name for name in columns if name in own] or [own[0]]


def completed(table: pa.Table, columns: Sequence[str], constants: Mapping[str, pa.Scalar]) -> pa.Table:
    """Return these columns, in this order; what the table lacks is a constant."""
    own = table.column_names
    filled = [table.column(n) if n in own else pa.repeat(constants[n], table.num_rows) for n in columns]
    return pa.table(filled, names=[*columns])


def why(error: Exception) -> str:
    """Return what a reader of text says, and what to do where a value is not of the type that the file began with."""
    late = any(words in str(error) for words in ("conversion error", "changed from"))
    advice = "; types come from the first 4 MiB of each file: mend the value, or write the rows as Parquet"
    return f"{error}{advice if late else ''}"
