"""Rows of a run in a database, by parts beside the table they are for. Knows no sink's options and no commit.

The parts of a run lie in one table of their own, each under a chunk number; a second table says which chunk is which
part, so a part that is written again takes the place of the first by one row. Both are dropped after the commit.
"""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from raymlops.codec import digest
from raymlops.data.sql_columns import Dialect, as_csv, as_tuples, column_type, misfits
from raymlops.data.sql_database import told
from raymlops.errors import RaymlopsError, StageFailed
from raymlops.values import Part

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

__all__ = [
    "CHUNK",
    "PLACE",
    "ROW",
    "RUN",
    "Target",
    "columns_of",
    "drop_staged",
    "execute",
    "has_table",
    "one_at_a_time",
    "quoted",
    "stage",
    "transaction",
]

RUN, ROW = "run_id", "run_row"  # columns of the table: which run wrote a row, and the row's place in that run
CHUNK, PLACE = "raymlops_chunk", "raymlops_place"  # columns of what is staged
_ROWS_AT_ONCE = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A table, and the columns by which a later run replaces rows; without them the rows of all runs stay."""

    engine: "Engine"
    schema: str | None
    table: str
    key: tuple[str, ...]

    def __str__(self) -> str:
        return f"sink sql: table {self.table if self.schema is None else f'{self.schema}.{self.table}'}"

    @property
    def dialect(self) -> Dialect:
        """Return which of the two databases it is."""
        return "sqlite" if self.engine.dialect.name == "sqlite" else "postgresql"

    def named(self, table: str) -> str:
        """Return the quoted name of a table in the target's schema."""
        return ".".join(quoted(part) for part in (self.schema, table) if part is not None)

    def staged(self, run: str) -> tuple[str, str]:
        """Return the names of the tables of a run's rows and of its parts."""
        mark = digest([self.table, run])[:24]
        return f"raymlops_{mark}_rows", f"raymlops_{mark}_parts"


def quoted(name: str) -> str:
    """Return a name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


@contextmanager
def transaction(target: Target, *, alone: bool = False) -> Iterator["Connection"]:
    """Give a connection whose work is done whole or not at all; `alone`: not while another makes or drops tables."""
    with told(target.engine, what=str(target), kind=StageFailed), target.engine.connect() as connection:
        if target.dialect == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.exec_driver_sql("SET LOCAL synchronous_commit TO on")
        if alone:
            one_at_a_time(connection, target)
        try:
            yield connection
        except target.engine.dialect.loaded_dbapi.Error:
            connection.invalidate()  # to roll back what is lost would hide why it is lost
            raise
        connection.commit()


def one_at_a_time(connection: "Connection", target: Target) -> None:
    """Wait until no other connection makes or drops tables, and keep it so until the transaction ends."""
    if target.dialect == "postgresql":  # in SQLite every transaction that writes is alone
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('raymlops'))")


def execute(connection: "Connection", statement: str, **values: Any) -> Any:
    """Run a statement with `:names` for values; any other colon is part of a name."""
    from sqlalchemy import text

    ours = "|".join(values) or r"\W"
    return connection.execute(text(re.sub(rf":(?!({ours})\b)", r"\:", statement)), values)


def has_table(connection: "Connection", target: Target, table: str) -> bool:
    """Return whether a table of the target's schema is there."""
    from sqlalchemy import inspect

    return inspect(connection).has_table(table, schema=target.schema)


def columns_of(connection: "Connection", target: Target, table: str) -> dict[str, str]:
    """Return the types of a table's columns, as the database writes them."""
    if target.dialect == "sqlite":
        return {row[1]: row[2] for row in execute(connection, f"PRAGMA table_info({quoted(table)})")}
    found = execute(
        connection,
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = to_regclass(:name) "
        "AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        name=target.named(table),
    )
    return dict(found.tuples().all())


def stage(target: Target, file: Path, part: Part, *, run: str) -> None:
    """Write the rows of an Arrow file as a part of the run; a part of the same name is replaced.

    Raise StageFailed, with nothing written, when the table cannot hold them or the database fails.
    """
    with pa.OSFile(str(file)) as opened:
        reader = pa.ipc.open_file(opened)
        with transaction(target, alone=True) as connection:
            _make(connection, target, run, reader.schema)
        with transaction(target) as connection:
            rows, parts = target.staged(run)
            chunk = secrets.randbits(62)
            _load(connection, target, rows, _chunked(reader, chunk))
            execute(
                connection,
                f"INSERT INTO {target.named(parts)} (name, rows, size_bytes, sha256, chunk) "
                "VALUES (:name, :rows, :size_bytes, :sha256, :chunk) ON CONFLICT (name) DO UPDATE "
                "SET rows = excluded.rows, size_bytes = excluded.size_bytes, sha256 = excluded.sha256, "
                "chunk = excluded.chunk",
                **asdict(part),
                chunk=chunk,
            )


def drop_staged(target: Target, *, run: str) -> None:
    """Drop what is staged of a run that is committed; what another connection holds is left to the next call."""
    with suppress(RaymlopsError), transaction(target, alone=True) as connection:
        if target.dialect == "postgresql":
            connection.exec_driver_sql("SET LOCAL lock_timeout TO '5s'")
        for table in target.staged(run):
            execute(connection, f"DROP TABLE IF EXISTS {target.named(table)}")


def _make(connection: "Connection", target: Target, run: str, schema: pa.Schema) -> None:
    """Make the tables of a run where they are missing; refuse rows that they or the target cannot hold."""
    rows, parts = target.staged(run)
    absent = [name for name in target.key if name not in (*schema.names, RUN, ROW)]
    if absent:
        raise StageFailed(
            f"{target}: key: no column {', '.join(absent)} in the rows; they have {', '.join(schema.names)}"
        )
    existing = has_table(connection, target, target.table)
    if existing:
        _refuse_misfits(connection, target, schema)
    if has_table(connection, target, rows):
        problems = misfits(schema, columns_of(connection, target, rows), target.dialect)
        if problems:
            raise StageFailed(*(f"{target}: parts of run {run} differ: {problem}" for problem in problems))
        return
    known = columns_of(connection, target, target.table) if existing else {}
    kinds = {field.name: known.get(field.name, column_type(field.type, target.dialect)) for field in schema}
    columns = ", ".join(f"{quoted(name)} {kind}" for name, kind in {CHUNK: "BIGINT", PLACE: "BIGINT", **kinds}.items())
    execute(connection, f"CREATE TABLE {target.named(rows)} ({columns})")
    execute(
        connection,
        f"CREATE TABLE {target.named(parts)} "
        "(name TEXT PRIMARY KEY, rows BIGINT, size_bytes BIGINT, sha256 TEXT, chunk BIGINT, first BIGINT)",
    )


def _refuse_misfits(connection: "Connection", target: Target, schema: pa.Schema) -> None:
    """Raise StageFailed with every reason for which the existing table cannot take rows of a schema."""
    from sqlalchemy import inspect

    own = pa.schema([(RUN, pa.string()), (ROW, pa.int64())])
    wanted = pa.schema([*schema, *own])
    problems = misfits(wanted, columns_of(connection, target, target.table), target.dialect)
    problems += [
        f"column {column['name']!r} must have a value, the rows have none"
        for column in inspect(connection).get_columns(target.table, schema=target.schema)
        if column["name"] not in wanted.names
        and not (column["nullable"] or column["default"] or column.get("identity") or column.get("computed"))
    ]
    if target.key and not _is_unique(inspect(connection), target):
        problems.append(f"no unique index is on {', '.join(target.key)}, the key; create one")
    if problems:
        raise StageFailed(*(f"{target}: {problem}; nothing is written" for problem in problems))


def _is_unique(look: Any, target: Target) -> bool:
    more = {"include_auto_indexes": True} if target.dialect == "sqlite" else {}
    indexes = look.get_indexes(target.table, schema=target.schema, **more)
    partial = f"{target.dialect}_where"
    found = [one["column_names"] for one in indexes if one["unique"] and partial not in one.get("dialect_options", {})]
    found.append(look.get_pk_constraint(target.table, schema=target.schema)["constrained_columns"])
    return any(set(columns) == set(target.key) for columns in found)


def _chunked(reader: pa.RecordBatchFileReader, chunk: int) -> Iterator[pa.Table]:
    """Yield some rows at a time, each with its chunk and its place in it."""
    first = 0
    for index in range(reader.num_record_batches):
        batch = pa.Table.from_batches([reader.get_batch(index)])
        for start in range(0, batch.num_rows, _ROWS_AT_ONCE):
            some = batch.slice(start, _ROWS_AT_ONCE)
            places = pa.array(range(first, first + some.num_rows), pa.int64())
            yield some.add_column(0, PLACE, places).add_column(0, CHUNK, pa.array([chunk] * some.num_rows, pa.int64()))
            first += some.num_rows


def _load(connection: "Connection", target: Target, table: str, rows: Iterator[pa.Table]) -> None:
    driver: Any = connection.connection.driver_connection
    first = next(rows)
    names = ", ".join(map(quoted, first.column_names))
    if target.dialect == "sqlite":
        marks = ", ".join("?" for _ in first.column_names)
        statement = f"INSERT INTO {target.named(table)} ({names}) VALUES ({marks})"
        for some in (first, *rows):
            try:
                driver.executemany(statement, as_tuples(some))
            except OverflowError as error:
                raise StageFailed(f"{target}: a whole number is beyond the 64 bits of SQLite") from error
        return
    with (
        driver.cursor() as cursor,
        cursor.copy(f"COPY {target.named(table)} ({names}) FROM STDIN (FORMAT csv)") as copy,
    ):
        for some in (first, *rows):
            copy.write(as_csv(some))
