"""A Delta table: the files of a run lie in its folder, and one entry of its log shows all of them at once."""

import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from raymlops.data.delta_parts import drop_others, run_schema, write_delta_parts
from raymlops.data.delta_table import RUN_KEY, app_id, columns_of, need_deltalake, open_table, said
from raymlops.data.files import located
from raymlops.data.stores import is_url, storage_options
from raymlops.errors import SpecError, StageFailed
from raymlops.values import JsonValue, Part

if TYPE_CHECKING:
    from deltalake import CommitProperties, DeltaTable
    from deltalake.transaction import AddAction

__all__ = ["Delta"]

_TRIES = 100
_WRITABLE = {"appendOnly", "invariants", "timestampNtz"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """`path`: the table's folder, `s3://…` or `gs://…`, made by the first run; `rows_per_file`: most rows of one file.

    `mode`: `append` adds the rows of a run, which may lack columns of the table but bring no other; `overwrite` puts
    them in the place of all that the table held, columns too, and older versions stay until VACUUM. The log keeps
    that a run was committed (a `txn` action), and its manifest. Times are kept in microseconds.
    """

    path: str
    mode: Literal["append", "overwrite"] = "append"
    rows_per_file: int = 5_000_000

    def __post_init__(self) -> None:
        problems = []
        if self.rows_per_file < 1:
            problems.append(f"rows_per_file: {self.rows_per_file} given, at least 1 is allowed")
        if self.mode not in ("append", "overwrite"):
            problems.append(f"mode: {self.mode!r} given, append or overwrite is allowed")
        if "://" in self.path and not is_url(self.path):
            problems.append(f"path: {self.path!r} given, a folder, s3://BUCKET/PATH or gs://BUCKET/PATH is allowed")
        if problems:
            raise SpecError(*problems)

    def write(self, tables: Iterable[pa.Table], *, run: str, name: str) -> Sequence[Part]:
        """Write files of at most `rows_per_file` rows, which no reader of the table sees."""
        need_deltalake(self._root)
        return write_delta_parts(tables, root=self._root, run=run, name=name, limit=self.rows_per_file)

    def commit(self, *, run: str, parts: Sequence[Part], manifest: bytes) -> bool:
        """Add one entry to the log; False if it has one of this run. Two drivers at once end with one entry.

        Raise StageFailed, with the table as it was, when a part is not there or the table is not one to write to.
        """
        need_deltalake(self._root)
        from deltalake.exceptions import DeltaError

        cause: Exception | None = None
        for _ in range(_TRIES):
            table = open_table(self._root)
            if table is not None and table.transaction_version(app_id(run)) is not None:
                return False
            schema = self._schema(table, run, parts)
            try:
                self._append(table, schema, run=run, parts=parts, manifest=manifest)
            except (DeltaError, OSError) as error:
                cause = error  # somebody else was quicker: look again who it was
                continue
            try:
                self._settle(run, parts)
            except OSError as error:
                raise StageFailed(
                    f"{self._root}: run {run} is in the log, but may not outlast a power cut: {error}; commit again"
                ) from error
            return True
        raise StageFailed(f"{self._root}: run {run} cannot be committed: {said(cause or OSError())}") from cause

    def source(self, run: str) -> JsonValue:
        """Return the Delta source that reads the rows of this run, whatever was committed since."""
        return {"delta": {"path": self._root, "run": run}}

    @property
    def _root(self) -> str:
        return located(self.path).rstrip("/")

    def _schema(self, table: "DeltaTable | None", run: str, parts: Sequence[Part]) -> pa.Schema:
        """Return the columns of the table after the commit; raise StageFailed when the run does not fit the table."""
        own = run_schema(parts, root=self._root, run=run)
        if table is None:
            if not parts:
                raise StageFailed(f"{self._root}: run {run} has no rows, and a table cannot be made without columns")
            return own
        known = columns_of(table)
        _refuse_unwritable(table, mode=self.mode)
        if not parts or self.mode == "overwrite":
            return own if parts else known
        problems = [
            f"{self._root}: column {field.name!r} of run {run} is {field.type}, the table "
            + (f"has {known.field(field.name).type}" if field.name in known.names else "has none of this name")
            for field in own
            if field.name not in known.names or known.field(field.name).type != field.type
        ]
        problems += [
            f"{self._root}: column {field.name!r} must have a value, run {run} has no such column"
            for field in known
            if not field.nullable and field.name not in own.names
        ]
        if problems:
            raise StageFailed(*problems, "nothing is shown; mend the columns, or give the sink another path")
        return known

    def _append(
        self, table: "DeltaTable | None", schema: pa.Schema, *, run: str, parts: Sequence[Part], manifest: bytes
    ) -> None:
        from deltalake import Schema
        from deltalake.transaction import create_table_with_add_actions

        actions, told = [_add(run, part) for part in parts], _properties(run, parts, manifest)
        columns = Schema.from_arrow(schema)
        if table is not None:
            table.create_write_transaction([*actions], self.mode, columns, commit_properties=told)
            return
        create_table_with_add_actions(
            self._root, columns, actions, commit_properties=told, storage_options=storage_options(self._root)
        )

    def _settle(self, run: str, parts: Sequence[Part]) -> None:
        """Make the entry outlast a power cut, and remove what lies beside the parts."""
        if not is_url(self._root):
            log = Path(self._root) / "_delta_log"
            # Ours is one of the last: others may have been added since.
            for path in (*sorted(log.glob("*.json"))[-_TRIES:], log, log.parent):
                handle = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)
        drop_others(parts, root=self._root, run=run)


def _add(run: str, part: Part) -> "AddAction":
    from deltalake.transaction import AddAction

    return AddAction(
        path=f"{run}/{part.name}",
        size=part.size_bytes,
        partition_values={},
        modification_time=int(time.time() * 1000),
        data_change=True,
        stats=json.dumps({"numRecords": part.rows}),
    )


def _properties(run: str, parts: Sequence[Part], manifest: bytes) -> "CommitProperties":
    from deltalake import CommitProperties, Transaction

    return CommitProperties(
        # The entry after the one that was looked at, or none: of two that make a table at once, the second would be
        # retried by deltalake 1.6 as an entry that makes it again, rows of the same run and all.
        max_commit_retries=0,
        app_transactions=[Transaction(app_id(run), len(parts))],
        custom_metadata={RUN_KEY: run, "raymlops_manifest": manifest.decode()},
    )


def _refuse_unwritable(table: "DeltaTable", *, mode: str) -> None:
    protocol, metadata = table.protocol(), table.metadata()
    settings = metadata.configuration or {}
    needs = sorted(set(protocol.writer_features or ()) - _WRITABLE)
    if protocol.min_writer_version > 2 and protocol.writer_features is None:
        needs.append(f"writer version {protocol.min_writer_version}")
    needs += [f"partition column {name}" for name in metadata.partition_columns]
    needs += [f"an invariant of {f.name}" for f in table.schema().fields if "delta.invariants" in (f.metadata or {})]
    if mode == "overwrite" and settings.get("delta.appendOnly") == "true":
        needs.append("appendOnly")
    if needs:
        raise StageFailed(f"{table.table_uri}: needs {', '.join(needs)}, which the delta sink does not keep")
