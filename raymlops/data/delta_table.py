"""A Delta table at one version, as its log tells it: columns, data files, the runs that were committed.

Knows nothing of what the files hold. The log is read and written by `deltalake`; the files are ours to read, because
its own reader holds a table in memory.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pyarrow as pa

from raymlops.codec import digest
from raymlops.data.stores import is_url, storage_options
from raymlops.errors import DataError, MissingExtra, Unavailable

if TYPE_CHECKING:
    from deltalake import DeltaTable

__all__ = [
    "RUN_KEY",
    "DataFile",
    "Snapshot",
    "app_id",
    "columns_of",
    "need_deltalake",
    "open_table",
    "said",
    "snapshot",
    "snapshot_of_run",
]

RUN_KEY = "raymlops_run"
_DRAWN = re.compile(r"\x1b\[\d+m|↳")
_READABLE = {"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck", "columnMapping", "deletionVectors"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """One file of a version, named relative to the table; `constants` are the values of the partition columns."""

    name: str
    size_bytes: int
    constants: Mapping[str, pa.Scalar]
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One version of a table: its columns and its data files by name, sorted."""

    version: int
    schema: pa.Schema
    files: Mapping[str, DataFile]


def open_table(root: str, *, version: int | None = None) -> "DeltaTable | None":
    """Return the table at a version, the newest if None; None where no table is.

    Raise DataError for a version that is not there, Unavailable for a store that does not answer, MissingExtra without
    `deltalake`.
    """
    need_deltalake(root)
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError, TableNotFoundError

    try:
        return DeltaTable(root, version=version, storage_options=storage_options(root))
    except (DeltaError, OSError) as error:
        if isinstance(error, TableNotFoundError) and version is None:
            return None
        asked = "the newest version" if version is None else f"version {version}"
        told = f"{root}: {asked} of the Delta table cannot be read: {said(error)}"
        raise (Unavailable(told) if is_url(root) and isinstance(error, OSError) else DataError(told)) from error


def need_deltalake(where: str) -> None:
    """Raise MissingExtra, with `where` as the table, unless `deltalake` is installed."""
    try:
        import deltalake  # noqa: F401
    except ImportError as error:
        raise MissingExtra(f"{where}: a Delta table needs `pip install raymlops[delta]`") from error


def columns_of(table: "DeltaTable") -> pa.Schema:
    """Return the columns of a table."""
    return pa.schema(table.schema().to_arrow())


def snapshot(table: "DeltaTable") -> Snapshot:
    """Return the version of the table that is open; raise DataError for a table with features that are not read."""
    _refuse_unreadable(table)
    where, version, schema = table.table_uri, table.version(), columns_of(table)
    identity = [str(table.metadata().id), version]
    files = {}
    for action in pa.table(table.get_add_actions()).select(_columns(table)).to_pylist():
        name = unquote(action["path"])
        if "://" in name or name.startswith("/"):
            raise DataError(f"{where}: version {version} names {name}, a file of another table; clones are not read")
        values = action.get("partition") or {}
        files[name] = DataFile(
            name=name,
            size_bytes=action["size_bytes"],
            constants={key: pa.scalar(value, schema.field(key).type) for key, value in values.items()},
            fingerprint=digest([*identity, name, action["size_bytes"], action["modification_time"]]),
        )
    return Snapshot(version=version, schema=schema, files=dict(sorted(files.items())))


def snapshot_of_run(table: "DeltaTable", run: str) -> Snapshot:
    """Return a version that holds every file of a committed run, with these files only; raise DataError without it.

    It is the version that is open while no later commit has rewritten or removed a file of the run, else the run's
    own.
    """
    count = table.transaction_version(app_id(run))
    if count is None:
        raise DataError(f"{table.table_uri}: holds no run {run} at version {table.version()}")
    now = _only(snapshot(table), run)
    if len(now.files) == count:
        return now
    for entry in table.history():
        if entry.get(RUN_KEY) == run:
            own = open_table(table.table_uri, version=int(entry["version"]))
            assert own is not None
            return _only(snapshot(own), run)
    raise DataError(
        f"{table.table_uri}: the files of run {run} were rewritten since, and its commit is no longer in the log"
    )


def app_id(run: str) -> str:
    """Return the name under which the log keeps that a run was committed; its version is the run's number of files."""
    return f"raymlops-{run}"


def said(error: Exception) -> str:
    """Return in one line what `deltalake` draws as a coloured tree, 300 characters of it."""
    return " ".join(_DRAWN.sub(" ", str(error)).split())[:300]


def _columns(table: "DeltaTable") -> list[str]:
    held = ["path", "size_bytes", "modification_time"]
    return [*held, "partition"] if table.metadata().partition_columns else held


def _only(held: Snapshot, run: str) -> Snapshot:
    files = {name: file for name, file in held.files.items() if name.startswith(f"{run}/")}
    return Snapshot(version=held.version, schema=held.schema, files=files)


def _refuse_unreadable(table: "DeltaTable") -> None:
    protocol, where = table.protocol(), f"{table.table_uri}: version {table.version()}"
    features = set(protocol.reader_features or ())
    unread = sorted(features - _READABLE)
    if unread or protocol.min_reader_version > 3:
        named = ", ".join(unread) or f"reader version {protocol.min_reader_version}"
        raise DataError(f"{where} needs {named}, which is not read here; write the rows as a table without it")
    mapping = (table.metadata().configuration or {}).get("delta.columnMapping.mode", "none")
    if mapping != "none":
        raise DataError(f"{where} maps columns by {mapping} (columnMapping), which is not read here; rewrite the table")
    if "deletionVectors" in features and _has_deletion_vectors(table):
        raise DataError(f"{where} has rows removed by deletionVectors, which are not read here; purge it (REORG)")


def _has_deletion_vectors(table: "DeltaTable") -> bool:
    from deltalake.exceptions import DeltaError

    try:
        return bool(pa.RecordBatchReader.from_stream(table.deletion_vectors()).read_all().num_rows)
    except DeltaError:
        return True  # there are some, and even their own library cannot read them
