"""What Arrow's types are in a column of PostgreSQL or SQLite, and rows as these databases take them. Knows no tables.

SQLite has neither times nor decimals, so they are texts there (ISO 8601, digits), and NaN becomes NULL in it.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

import pyarrow as pa
import pyarrow.csv as pa_csv

from raymlops.errors import StageFailed

__all__ = ["Dialect", "as_csv", "as_tuples", "column_type", "misfits", "plain"]

Dialect: TypeAlias = Literal["postgresql", "sqlite"]

_BITS = {"smallint": 16, "integer": 32, "bigint": 64}
_NOT_TEXT = {*_BITS, "boolean", "real", "double precision", "numeric", "bytea", "date", "interval", "money"}
_ANY = 1000  # digits: a numeric without a precision holds more than any decimal of Arrow has


def plain(table: pa.Table) -> pa.Table:
    """Return the table with types that a column can have: values instead of dictionaries, microseconds at the finest.

    Raise StageFailed that names the columns which no column of SQL holds, such as lists.
    """
    kinds = {field.name: _plain(field.type) for field in table.schema}
    bad = [f"{name!r} ({table.schema.field(name).type})" for name, kind in kinds.items() if kind is None]
    if bad:
        raise StageFailed(f"sink sql: no column of a table holds {', '.join(bad)}; leave it out, or use parquet")
    return table.cast(pa.schema([*kinds.items()]))


def column_type(kind: pa.DataType, dialect: Dialect) -> str:
    """Return the type of a new column for a type of `plain`.

    >>> column_type(pa.timestamp("us", "UTC"), "postgresql"), column_type(pa.timestamp("us", "UTC"), "sqlite")
    ('timestamp with time zone', 'TEXT')
    """
    test = pa.types
    if dialect == "sqlite":
        known = {
            test.is_boolean: "BOOLEAN",
            test.is_integer: "BIGINT",
            test.is_floating: "DOUBLE",
            test.is_binary: "BLOB",
        }
        return next((name for is_kind, name in known.items() if is_kind(kind)), "TEXT")
    if test.is_integer(kind):
        return next((name for name, bits in _BITS.items() if bits >= _bits(kind)), "numeric(20,0)")
    if test.is_decimal(kind):
        return f"numeric({kind.precision},{kind.scale})"
    if test.is_timestamp(kind):
        return f"timestamp {'with' if kind.tz else 'without'} time zone"
    exact = {pa.bool_(): "boolean", pa.float32(): "real", pa.float64(): "double precision", pa.binary(): "bytea",
             pa.date32(): "date", pa.time64("us"): "time without time zone"}  # fmt: skip
    return exact.get(kind, "text")


def misfits(schema: pa.Schema, columns: Mapping[str, str], dialect: Dialect) -> list[str]:
    """Return a sentence for each column of rows that a table, given by its columns' types, lacks or cannot hold."""
    problems = []
    for field in schema:
        there, wanted = columns.get(field.name), column_type(field.type, dialect)
        if there is None:
            problems.append(
                f"column {field.name!r} is not in the table, the rows have {field.type}; add it as {wanted}"
            )
        elif not (pa.types.is_null(field.type) or _HOLDS[dialect](there.lower(), field.type)):
            problems.append(f"column {field.name!r} is {there}, the rows have {field.type}, which needs {wanted}")
    return problems


def as_csv(table: pa.Table) -> pa.Buffer:
    """Return lines for PostgreSQL's COPY: an empty field is NULL, an empty text is `""`."""
    columns = [_hex(column) if pa.types.is_binary(column.type) else column for column in table.columns]
    sink = pa.BufferOutputStream()
    pa_csv.write_csv(pa.table(columns, table.column_names), sink, pa_csv.WriteOptions(include_header=False))
    return sink.getvalue()


def as_tuples(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    """Return rows for SQLite."""
    columns = [_native(column).to_pylist() for column in table.columns]
    return zip(*columns, strict=True)


def _plain(kind: pa.DataType) -> pa.DataType | None:
    test = pa.types
    if test.is_dictionary(kind):
        return _plain(kind.value_type)
    if test.is_timestamp(kind):
        return pa.timestamp("us", "UTC" if kind.tz else None)
    same = {test.is_string_view: pa.string(), test.is_large_string: pa.string(), test.is_binary_view: pa.binary(),
            test.is_large_binary: pa.binary(), test.is_fixed_size_binary: pa.binary(), test.is_float16: pa.float32(),
            test.is_date: pa.date32(), test.is_time: pa.time64("us")}  # fmt: skip
    for is_kind, other in same.items():
        if is_kind(kind):
            return other
    known = (
        test.is_null,
        test.is_boolean,
        test.is_integer,
        test.is_floating,
        test.is_decimal,
        test.is_string,
        test.is_binary,
    )
    return kind if any(is_kind(kind) for is_kind in known) else None


def _bits(kind: pa.DataType) -> int:
    """Return the bits that a signed integer needs to hold the type."""
    return int(kind.bit_width) if pa.types.is_signed_integer(kind) else 2 * int(kind.bit_width)


def _in_postgres(column: str, kind: pa.DataType) -> bool:
    test, whole, after = pa.types, *_digits(column)
    if test.is_integer(kind):
        return _BITS.get(column, 0) >= _bits(kind) or (column.startswith("numeric") and whole >= 20)
    if test.is_floating(kind):
        return column in ("double precision", "numeric") or (column == "real" and kind == pa.float32())
    if test.is_decimal(kind):
        return column.startswith("numeric") and whole >= kind.precision - kind.scale and after >= kind.scale
    if test.is_string(kind):
        # What else has a text, such as uuid, json or an enum, is parsed by PostgreSQL, value for value.
        return re.split(r"[(\[]", column)[0] not in _NOT_TEXT and not column.startswith("time")
    return re.sub(r"\(\d+\)", "", column) == column_type(kind, "postgresql")


def _in_sqlite(column: str, kind: pa.DataType) -> bool:
    wanted = column_type(kind, "sqlite")
    # By SQLite's own rules of affinity, in their order. A text in a column without one could become a number.
    parts = (("bool", "BOOLEAN"), ("int", "BIGINT"), ("char", "TEXT"), ("clob", "TEXT"), ("text", "TEXT"),
             ("blob", "BLOB"), ("real", "DOUBLE"), ("floa", "DOUBLE"), ("doub", "DOUBLE"))  # fmt: skip
    return next((name for part, name in parts if part in column), "") == wanted


_HOLDS = {"postgresql": _in_postgres, "sqlite": _in_sqlite}


def _digits(column: str) -> tuple[int, int]:
    """Return how many digits before and after the point a numeric column holds."""
    found = re.fullmatch(r"numeric\((\d+),(\d+)\)", column)
    return (int(found[1]) - int(found[2]), int(found[2])) if found else (_ANY, _ANY)


def _hex(column: pa.ChunkedArray) -> pa.Array:
    return pa.array([None if value is None else f"\\x{value.hex()}" for value in column.to_pylist()], pa.string())


def _native(column: pa.ChunkedArray) -> pa.ChunkedArray:
    test, kind = pa.types, column.type
    text = test.is_date(kind) or test.is_timestamp(kind) or test.is_time(kind) or test.is_decimal(kind)
    return column.cast(pa.string()) if text else column
