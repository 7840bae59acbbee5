"""Rows of a query in any database of SQLAlchemy, SQLite first: types declared or seen, checksums made here.

Each reading is one statement, so what it tells is one state of the database. To list shards is to read every row:
such a database cannot hash them itself. Knows no pieces.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pyarrow as pa

from raymlops.data.sql_database import told
from raymlops.data.sql_shards import MODULUS, WHOLE, Content, Shard, from_json, to_json
from raymlops.errors import DataError

if TYPE_CHECKING:
    from sqlalchemy import Engine, Select, Subquery

__all__ = ["list_shards", "read_rows", "read_schema"]

_ROWS_AT_ONCE = 1 << 17
# By SQLite's own rules of affinity, in their order; BOOLEAN is ours. A date has none: it is what it is stored as.
_DECLARED = (("BOOL", pa.bool_()), ("INT", pa.int64()), ("CHAR", pa.string()), ("CLOB", pa.string()),
             ("TEXT", pa.string()), ("BLOB", pa.binary()), ("REAL", pa.float64()), ("FLOA", pa.float64()),
             ("DOUB", pa.float64()))  # fmt: skip


def read_schema(engine: "Engine", query: str) -> pa.Schema:
    """Return the columns of a query: by their declared types in SQLite, else by every value of the whole result."""
    with _told(engine, query):
        declared = _declared(engine, query) if engine.dialect.name == "sqlite" else {}
        with engine.connect().execution_options(stream_results=True) as connection:
            names = list(connection.execute(_text(query)).keys())
        known = [declared.get(index) for index in range(len(names))]
        seen = [kind or pa.null() for kind in known]
        if None in known:
            for rows in _batches(engine, query, _text(query)):
                seen = [known[i] or _widened(names[i], kind, [row[i] for row in rows]) for i, kind in enumerate(seen)]
    return pa.schema([*zip(names, seen, strict=True)])


def list_shards(
    engine: "Engine", query: str, *, by: str | None, size: int, names: Sequence[str]
) -> list[tuple[Shard, Content]]:
    """Return ranges of about `size` rows and what they hold, all of one state."""
    if by is None:
        whole = Content()
        for rows in _batches(engine, query, _text(query)):
            whole += _content(rows)
        return [(WHOLE, whole)] if whole.rows else []
    found: dict[int | None, tuple[Any, Content]] = {}
    place = [*names].index(by)
    for rows in _batches(engine, query, _ranked(query, names, by)):
        # Equal keys have one rank, by the database's own idea of equal.
        for shard, some in groupby(rows, key=lambda row: None if row[place] is None else (row[-1] - 1) // size):
            own = [row[:-1] for row in some]
            first, content = found.get(shard, (own[0][place], Content()))
            found[shard] = (first, content + _content(own))
    return _ranges(by, found)


def read_rows(
    engine: "Engine", query: str, schema: pa.Schema, shard: Shard, *, columns: Sequence[str]
) -> Iterator[tuple[pa.Table, Content]]:
    """Yield rows of a shard, ordered by its key and then every column, and what they are: at most 131,072 at a time."""
    statement = _text(query) if shard.by is None else _within(query, schema.names, shard)
    places = [schema.names.index(name) for name in columns]
    kept = pa.schema([schema.field(place) for place in places])
    for rows in _batches(engine, query, statement):
        arrays = [_array([row[i] for row in rows], field) for i, field in zip(places, kept, strict=True)]
        yield pa.table(arrays, schema=kept), _content(rows)


def _batches(engine: "Engine", query: str, statement: Any) -> Iterator[Sequence[Any]]:
    with _told(engine, query), engine.connect().execution_options(stream_results=True) as connection:
        result = connection.execute(statement)
        while rows := result.fetchmany(_ROWS_AT_ONCE):
            yield [*map(tuple, rows)]


@contextmanager
def _told(engine: "Engine", query: str) -> Iterator[None]:
    with told(engine, what=f"source sql: query {query!r:.200}", kind=DataError):
        yield


def _content(rows: Sequence[Any]) -> Content:
    hashed = (hashlib.blake2b(repr(row).encode(errors="surrogatepass"), digest_size=8).digest() for row in rows)
    total = sum(map(int.from_bytes, hashed))
    return Content(rows=len(rows), total=total % MODULUS)


def _declared(engine: "Engine", query: str) -> dict[int, pa.DataType]:
    """Return the types of columns, by their place, that SQLite knows from the tables they come from."""
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE TEMP VIEW raymlops_rows AS {query}\n")
        words = [row[2].upper() for row in connection.exec_driver_sql("PRAGMA temp.table_info(raymlops_rows)")]
    matches = {i: next((kind for part, kind in _DECLARED if part in word), None) for i, word in enumerate(words)}
    return {index: kind for index, kind in matches.items() if kind is not None}


def _widened(name: str, known: pa.DataType, values: Sequence[Any]) -> pa.DataType:
    try:
        seen = pa.array([_plain(value) for value in values]).type
        (field,) = pa.unify_schemas(
            [pa.schema([(name, known)]), pa.schema([(name, seen)])], promote_options="permissive"
        )
    except (pa.ArrowException, TypeError) as error:
        raise DataError(f"source sql: column {name!r} of the result mixes types: {error}; cast it") from error
    return field.type


def _array(values: Sequence[Any], field: pa.Field) -> pa.Array:
    plain = [_plain(value) for value in values]
    try:
        if pa.types.is_boolean(field.type):
            plain = [None if value is None else {0: False, 1: True}[value] for value in plain]
        return pa.array(plain, field.type)
    except (pa.ArrowException, TypeError, KeyError) as error:
        raise DataError(
            f"source sql: column {field.name!r} is {field.type} and holds another value: {error}; cast it in the query"
        ) from error


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, UUID) else value


def _ranges(by: str, found: dict[int | None, tuple[Any, Content]]) -> list[tuple[Shard, Content]]:
    known = [number for number in found if number is not None]
    firsts = [to_json(found[number][0]) for number in known]
    lasts = [*firsts[1:], None]
    made = [
        (Shard(by=by, first=firsts[i] if i else None, last=lasts[i]), found[number][1])
        for i, number in enumerate(known)
    ]
    return made + ([(Shard(by=by, nulls=True), found[None][1])] if None in found else [])


def _within(query: str, names: Sequence[str], shard: Shard) -> "Select[Any]":
    from sqlalchemy import select

    assert shard.by is not None
    rows = _subquery(query, names)
    key = rows.c[shard.by]
    chosen = select(rows).where(key.is_(None) if shard.nulls else key.is_not(None))
    if shard.first is not None:
        chosen = chosen.where(key >= from_json(shard.first))
    if shard.last is not None:
        chosen = chosen.where(key < from_json(shard.last))
    return chosen.order_by(key, *(column for column in rows.c if column is not key))


def _ranked(query: str, names: Sequence[str], by: str) -> "Select[Any]":
    from sqlalchemy import func, select

    rows = _subquery(query, names)
    return select(rows, func.rank().over(order_by=rows.c[by])).order_by(rows.c[by])


def _subquery(query: str, names: Sequence[str]) -> "Subquery":
    from sqlalchemy import column

    # A comment may end the query: the bracket stands in a line of its own.
    rows: Subquery = _text(f"{query}\n").columns(*(column(name) for name in names)).subquery("raymlops_rows")
    return rows


def _text(query: str) -> Any:
    from sqlalchemy import text

    # A colon before a word is part of the query, as in '12:30', not the name of a parameter.
    return text(re.sub(r"(?<![:\w\\]):(?=\w)", r"\\:", query))
