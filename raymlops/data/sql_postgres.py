"""Rows of a query in PostgreSQL: types from its catalog, checksums made where the rows are, rows by COPY as CSV.

Each reading is one REPEATABLE READ, READ ONLY transaction in UTC, so what it tells is one state of the database. A
snapshot that outlives its transaction (`pg_export_snapshot`) is not used: it would have to be held open for the whole
run, would keep VACUUM from its work, and would end with the driver that a resumed run has lost. Knows no pieces.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from raymlops.data.sql_database import told
from raymlops.data.sql_shards import MODULUS, WHOLE, Content, Shard
from raymlops.errors import DataError

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql
    from sqlalchemy import Engine

__all__ = ["list_shards", "read_rows", "read_schema"]

_ROWS_AT_ONCE = 1 << 17
_BYTES_AT_ONCE = 16 << 20
_HASH = 'hashtextextended((raymlops_rows.*)::text COLLATE "C", 0)'
# The text of a value, and so its hash, depends on these.
_SETTINGS = {"TimeZone": "UTC", "DateStyle": "ISO", "IntervalStyle": "postgres", "extra_float_digits": "1",
             "bytea_output": "hex", "client_encoding": "UTF8"}  # fmt: skip
_TYPES = {
    16: pa.bool_(), 17: pa.binary(), 20: pa.int64(), 21: pa.int16(), 23: pa.int32(), 26: pa.int64(),
    700: pa.float32(), 701: pa.float64(), 1082: pa.date32(), 1083: pa.time64("us"), 1114: pa.timestamp("us"),
    1184: pa.timestamp("us", "UTC"),
}  # fmt: skip
_NUMERIC = 1700


def read_schema(engine: "Engine", query: str) -> pa.Schema:
    """Return the columns of a query by the types that the database gives them.

    `numeric(p, s)` is a decimal, `numeric` without a precision a float64; what has no type in Arrow (uuid, json,
    enums, intervals, arrays) is its text.
    """
    with _transaction(engine, query) as connection:
        return pa.schema([(one.name, _arrow_type(one)) for one in _described(connection, query)])


def list_shards(engine: "Engine", query: str, *, by: str | None, size: int) -> list[tuple[Shard, Content]]:
    """Return ranges of about `size` rows and what they hold, of one state; only bounds and sums leave the server."""
    with _transaction(engine, query) as connection:
        if by is None:
            whole = _sql("SELECT count(*), coalesce(sum({hash}), 0) FROM {rows}", hash=_raw(_HASH), rows=_inner(query))
            rows, total = connection.execute(whole).fetchone() or (0, 0)
            return [(WHOLE, _as_content(rows, total))] if rows else []
        bounds = _bounds(connection, query, by, size)
        statement = _sql(
            "SELECT width_bucket({key}, {bounds}::text[]::{type}[]), count(*), sum({hash}) FROM {rows} "
            "GROUP BY 1 ORDER BY 1",
            key=_name(by),
            bounds=_literal(bounds),
            type=_key_type(connection, query, by),
            hash=_raw(_HASH),
            rows=_inner(query),
        )
        listed = connection.execute(statement).fetchall()
    return [(_shard(by, bounds, place), _as_content(rows, total)) for place, rows, total in listed]


def read_rows(
    engine: "Engine", query: str, schema: pa.Schema, shard: Shard, *, columns: Sequence[str]
) -> Iterator[tuple[pa.Table, Content]]:
    """Yield rows of a shard, ordered by its key, and what they are: at most 131,072 rows or about 16 MiB at a time."""
    types = {name: schema.field(name).type for name in columns}
    with _transaction(engine, query) as connection:
        statement = _sql(
            "COPY (SELECT {columns}{hash} AS raymlops_hash FROM {rows}{within}) TO STDOUT (FORMAT csv)",
            columns=_joined(_sql("{key}, ", key=_name(name)) for name in columns),
            hash=_raw(_HASH),
            rows=_inner(query),
            within=_within(connection, query, shard),
        )
        with connection.cursor() as cursor, cursor.copy(statement) as lines:
            for block in _blocks(lines):
                yield _parsed(block, types)


@contextmanager
def _transaction(engine: "Engine", query: str) -> Iterator["psycopg.Connection[Any]"]:
    from psycopg import IsolationLevel

    with told(engine, what=f"source sql: query {query!r:.200}", kind=DataError):
        pooled = engine.raw_connection()
        try:
            connection: Any = pooled.driver_connection
            connection.isolation_level, connection.read_only = IsolationLevel.REPEATABLE_READ, True
            for name, value in _SETTINGS.items():
                connection.execute(f"SET LOCAL {name} TO '{value}'")
            yield connection
        finally:
            pooled.close()


def _described(connection: "psycopg.Connection[Any]", query: str) -> Sequence["psycopg.Column"]:
    found = connection.execute(_sql("SELECT * FROM {rows} LIMIT 0", rows=_inner(query))).description
    assert found is not None
    return found


def _arrow_type(column: "psycopg.Column") -> pa.DataType:
    if column.type_code != _NUMERIC:
        return _TYPES.get(column.type_code, pa.string())
    precision, scale = column.precision, column.scale
    if precision is None or scale is None or not 0 <= scale <= precision <= 38:
        return pa.float64()
    return pa.decimal128(precision, scale)


def _bounds(connection: "psycopg.Connection[Any]", query: str, by: str, size: int) -> list[str]:
    """Return the keys, as text, at which a new shard begins."""
    statement = _sql(
        "SELECT key::text FROM (SELECT {key} AS key, row_number() OVER (ORDER BY {key}) - 1 AS place FROM {rows} "
        "WHERE {key} IS NOT NULL) AS keys WHERE place > 0 AND place % {size} = 0 ORDER BY place",
        key=_name(by),
        size=_literal(size),
        rows=_inner(query),
    )
    return [key for (key,) in connection.execute(statement)]


def _as_content(rows: int, total: Any) -> Content:
    return Content(rows=rows, total=int(total) % MODULUS)


def _shard(by: str, bounds: Sequence[str], place: int | None) -> Shard:
    if place is None:
        return Shard(by=by, nulls=True)
    first = bounds[place - 1] if place else None
    return Shard(by=by, first=first, last=bounds[place] if place < len(bounds) else None)


def _within(connection: "psycopg.Connection[Any]", query: str, shard: Shard) -> "sql.Composed":
    if shard.by is None:
        return _sql("")
    key = _name(shard.by)
    if shard.nulls:
        return _sql(" WHERE {key} IS NULL ORDER BY raymlops_hash", key=key)
    kind = _key_type(connection, query, shard.by)
    bounds = {" AND {key} >= {value}::{type}": shard.first, " AND {key} < {value}::{type}": shard.last}
    asked = [_sql(words, key=key, value=_literal(v), type=kind) for words, v in bounds.items() if v is not None]
    # Rows of one key come in the order of their hashes, so that a shard reads the same again.
    return _sql(" WHERE {key} IS NOT NULL{asked} ORDER BY {key}, raymlops_hash", key=key, asked=_joined(asked))


def _key_type(connection: "psycopg.Connection[Any]", query: str, by: str) -> "sql.Composable":
    code = next(one.type_code for one in _described(connection, query) if one.name == by)
    (name,) = connection.execute(f"SELECT format_type({code}, -1)").fetchone() or ("text",)
    return _raw(name)


def _blocks(lines: Iterable[Any]) -> Iterator[list[Any]]:
    """Gather the lines of a COPY; the server sends one at a time."""
    held: list[Any] = []
    size = 0
    for line in lines:
        held.append(line)
        size += len(line)
        if len(held) == _ROWS_AT_ONCE or size >= _BYTES_AT_ONCE:
            yield held
            held, size = [], 0
    if held:
        yield held


def _parsed(block: list[Any], types: dict[str, pa.DataType]) -> tuple[pa.Table, Content]:
    data = b"".join(block)
    as_text = {name: pa.string() if pa.types.is_binary(kind) else kind for name, kind in types.items()}
    try:
        made = pa_csv.read_csv(
            pa.BufferReader(data),
            read_options=pa_csv.ReadOptions(
                column_names=[*types, "raymlops_hash"], block_size=len(data) + 1, use_threads=False
            ),
            parse_options=pa_csv.ParseOptions(newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(
                column_types={**as_text, "raymlops_hash": pa.int64()}, null_values=[""], strings_can_be_null=True,
                quoted_strings_can_be_null=False, true_values=["t"], false_values=["f"],
            ),
        )  # fmt: skip
    except pa.ArrowException as error:
        names = [*types]
        words = re.sub(r"In CSV column #(\d+)", lambda found: f"column {names[int(found[1])]!r}", str(error))
        raise DataError(f"source sql: a value has no place in Arrow: {words}; cast it in the query") from error
    total = int(made.column("raymlops_hash").to_numpy().sum(dtype=np.int64)) % MODULUS
    table = pa.table(
        [_bytes(made.column(name), kind) for name, kind in types.items()], schema=pa.schema([*types.items()])
    )
    return table, Content(rows=made.num_rows, total=total)


def _bytes(column: pa.ChunkedArray, kind: pa.DataType) -> Any:
    if not pa.types.is_binary(kind):
        return column
    return pa.array([None if text is None else bytes.fromhex(text[2:]) for text in column.to_pylist()], kind)


def _sql(words: str, **parts: "sql.Composable") -> "sql.Composed":
    from psycopg import sql

    return sql.SQL(words).format(**parts)


def _joined(parts: Iterable["sql.Composable"]) -> "sql.Composed":
    from psycopg import sql

    return sql.Composed([*parts])


def _raw(words: str) -> "sql.Composable":
    from psycopg import sql

    return sql.SQL(words)


def _name(column: str) -> "sql.Composable":
    from psycopg import sql

    return sql.Identifier("raymlops_rows", column)


def _literal(value: object) -> "sql.Composable":
    from psycopg import sql

    return sql.Literal(value)


def _inner(query: str) -> "sql.Composed":
    # A comment may end the query: the bracket stands in a line of its own.
    return _sql("({query}\n) AS raymlops_rows", query=_raw(query))
