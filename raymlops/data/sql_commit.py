"""The commit of a run in a database: one transaction that moves its parts into the table and records it.

`raymlops_runs`, beside the table, has a row for each run with its manifest; the first commit is the one that puts it.
Knows nothing of how parts were written.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from raymlops.data.sql_staging import (
    CHUNK,
    PLACE,
    ROW,
    RUN,
    Target,
    columns_of,
    drop_staged,
    execute,
    has_table,
    one_at_a_time,
    quoted,
    transaction,
)
from raymlops.errors import StageFailed
from raymlops.values import Part

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["commit_parts", "is_committed"]

_RUNS = "raymlops_runs"


def commit_parts(target: Target, *, run: str, parts: Sequence[Part], manifest: bytes) -> bool:
    """Move the parts into the table, in their order, and record the run; False if that was done before.

    Raise StageFailed, with nothing moved, when a part is not there, rows share a key, or the database fails.
    """
    with transaction(target, alone=True) as connection:
        _make_runs(connection, target)
    with transaction(target) as connection:
        first = _claimed(connection, target, run, parts, manifest)
        if first and parts:
            _move(connection, target, run, parts)
    drop_staged(target, run=run)
    return first


def is_committed(target: Target, run: str) -> bool:
    """Return whether a run was committed and its rows are still there."""
    with transaction(target) as connection:
        return has_table(connection, target, _RUNS) and _stands(connection, target, run)


def _make_runs(connection: "Connection", target: Target) -> None:
    bytes_type = "BLOB" if target.dialect == "sqlite" else "bytea"
    execute(
        connection,
        f"CREATE TABLE IF NOT EXISTS {target.named(_RUNS)} (target TEXT NOT NULL, run TEXT NOT NULL, "
        f"rows BIGINT NOT NULL, finished TEXT NOT NULL, manifest {bytes_type} NOT NULL, PRIMARY KEY (target, run))",
    )


def _claimed(connection: "Connection", target: Target, run: str, parts: Sequence[Part], manifest: bytes) -> bool:
    """Record the run in this transaction; False if it is recorded and its rows stand. Another driver's commit waits."""
    runs = target.named(_RUNS)
    # To set a row that is there to what it is locks it, as a new one is.
    locked = "ON CONFLICT (target, run) DO UPDATE SET run = excluded.run"
    mine = f"INSERT INTO {runs} (target, run, rows, finished, manifest) VALUES (:target, :run, -1, '', :none) {locked}"
    execute(connection, mine, target=target.table, run=run, none=b"")
    if _stands(connection, target, run):
        return False
    values = {"rows": sum(part.rows for part in parts), "manifest": manifest, "finished": _now()}
    changes = ", ".join(f"{name} = :{name}" for name in values)
    where = "WHERE target = :target AND run = :run"
    execute(connection, f"UPDATE {runs} SET {changes} {where}", target=target.table, run=run, **values)
    return True


def _stands(connection: "Connection", target: Target, run: str) -> bool:
    """Return whether the run is recorded, and its rows were not removed since: a run without rows is done again."""
    where = "WHERE target = :target AND run = :run"
    rows = execute(connection, f"SELECT rows FROM {target.named(_RUNS)} {where}", target=target.table, run=run).scalar()
    if rows is None or rows <= 0:
        return bool(rows == 0)
    if not has_table(connection, target, target.table):
        return False
    if target.key:
        return True  # later runs may have replaced every row of it
    one = f"SELECT 1 FROM {target.named(target.table)} WHERE {quoted(RUN)} = :run LIMIT 1"
    return execute(connection, one, run=run).first() is not None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _move(connection: "Connection", target: Target, run: str, parts: Sequence[Part]) -> None:
    rows, listed = target.staged(run)
    _verify(connection, target, run, parts)
    first = 0
    for part in parts:
        placed = f"UPDATE {target.named(listed)} SET first = :first WHERE name = :name"
        execute(connection, placed, first=first, name=part.name)
        first += part.rows
    columns = {name: kind for name, kind in columns_of(connection, target, rows).items() if name not in (CHUNK, PLACE)}
    _make_table(connection, target, columns)
    if target.key:
        _refuse_twins(connection, target, run)
    moved = _insert(connection, target, run, [*columns])
    if moved != first:
        raise StageFailed(f"{target}: {moved:,} of {first:,} rows of run {run} are staged; nothing is shown")


def _verify(connection: "Connection", target: Target, run: str, parts: Sequence[Part]) -> None:
    """Raise StageFailed unless each part is staged as it was written."""
    _, listed = target.staged(run)
    there = set()
    if has_table(connection, target, listed):
        found = execute(connection, f"SELECT name, rows, size_bytes, sha256 FROM {target.named(listed)}")
        there = {Part(name=name, rows=rows, size_bytes=size, sha256=sha256) for name, rows, size, sha256 in found}
    absent = [part.name for part in parts if part not in there]
    if absent:
        raise StageFailed(
            f"{target}: {len(absent)} of {len(parts)} parts of run {run} are not there as they were written, the first "
            f"is {absent[0]}; nothing is shown"
        )


def _make_table(connection: "Connection", target: Target, columns: Mapping[str, str]) -> None:
    if has_table(connection, target, target.table):
        return
    one_at_a_time(connection, target)
    if has_table(connection, target, target.table):
        return
    whole = {**columns, RUN: "TEXT", ROW: "BIGINT"}
    key = target.key or (RUN, ROW)
    lines = [f"{quoted(name)} {kind}{' NOT NULL' if name in (*key, RUN, ROW) else ''}" for name, kind in whole.items()]
    unique = f"PRIMARY KEY ({', '.join(map(quoted, key))})"
    execute(connection, f"CREATE TABLE {target.named(target.table)} ({', '.join([*lines, unique])})")


def _refuse_twins(connection: "Connection", target: Target, run: str) -> None:
    """Raise StageFailed when two rows of the run have one key, or a row has none: one would replace the other."""
    key = [f"s.{quoted(name)}" for name in target.key if name not in (RUN, ROW)]
    if ROW in target.key or not key:
        return
    names = ", ".join(key)
    twins = f"SELECT {names} FROM {_staged_rows(target, run)} GROUP BY {names} HAVING count(*) > 1 LIMIT 1"
    nulls = f"SELECT {names} FROM {_staged_rows(target, run)} AND ({' OR '.join(f'{k} IS NULL' for k in key)}) LIMIT 1"
    for words, statement in (("two rows of the run have", twins), ("a row without a whole key has", nulls)):
        found = execute(connection, statement).first()
        if found is not None:
            shown = dict(zip((name for name in target.key if name != RUN), found, strict=True))
            raise StageFailed(f"{target}: {words} the key {shown}; keep one row a key, or leave out key to append")


def _insert(connection: "Connection", target: Target, run: str, columns: Sequence[str]) -> int:
    """Insert the rows of the named parts and return how many there were."""
    names = [quoted(name) for name in (*columns, RUN, ROW)]
    key = [quoted(name) for name in target.key]
    kept = ", ".join(f"{name} = excluded.{name}" for name in names if name not in key)
    replaced = f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {kept}" if key else ""
    selected = "".join(f"s.{quoted(name)}, " for name in columns)
    statement = (
        f"INSERT INTO {target.named(target.table)} ({', '.join(names)}) "
        f"SELECT {selected}CAST(:run AS TEXT), p.first + s.{PLACE} FROM {_staged_rows(target, run)}{replaced}"
    )
    return int(execute(connection.execution_options(preserve_rowcount=True), statement, run=run).rowcount)


def _staged_rows(target: Target, run: str) -> str:
    rows, listed = target.staged(run)
    joined = f"{target.named(rows)} AS s JOIN {target.named(listed)} AS p ON p.chunk = s.{CHUNK}"
    return f"{joined} WHERE p.first IS NOT NULL"
