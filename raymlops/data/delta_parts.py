"""Parquet files of a run in a Delta table's folder, before the log names them. Knows nothing of the log.

They lie in `TABLE/RUN/`, and their names cover their bytes, so that a second writer never changes what a first one
wrote. A reader of the table sees none of them before the log does; what is never named is removed by VACUUM.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from raymlops.data.files import opened
from raymlops.data.objects import remove_objects, write_objects
from raymlops.data.row_groups import open_parquet
from raymlops.data.staging import cut, place, write_file
from raymlops.data.stores import is_url
from raymlops.errors import DataError, StageFailed
from raymlops.values import Part

__all__ = ["drop_others", "run_schema", "write_delta_parts"]

_ENDING = ".parquet"
_STORED = {
    pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64(), pa.uint64(): pa.int64(),
    pa.float16(): pa.float32(), pa.date64(): pa.date32(), pa.null(): pa.string(), pa.string_view(): pa.string(),
    pa.large_string(): pa.string(), pa.large_binary(): pa.binary(), pa.binary_view(): pa.binary(),
}  # fmt: skip


def write_delta_parts(tables: Iterable[pa.Table], *, root: str, run: str, name: str, limit: int) -> list[Part]:
    """Write tables as `NAME-000-DIGEST.parquet` of at most `limit` rows into `ROOT/RUN/`; durable when this returns.

    Raise StageFailed that names the columns which Delta cannot hold, such as times of a day.
    """
    fitting = map(_stored, tables)
    if is_url(root):
        return write_objects(fitting, url=root, run=run, name=name, ending=_ENDING, limit=limit, writer=_writer)
    folder, made = Path(root) / run, []
    try:
        for index, chunk in enumerate(cut(fitting, limit)):
            written = write_file(chunk, writer=_writer, path=folder / f".{name}-{index:03}.{uuid4().hex[:8]}")
            part = replace(written, name=f"{name}-{index:03}-{written.sha256[:16]}{_ENDING}")
            place(folder / written.name, folder / part.name)
            made.append(part)
    except (OSError, pa.ArrowException) as error:
        raise StageFailed(f"{folder}: {name} cannot be written: {error}") from error
    return made


def run_schema(parts: Sequence[Part], *, root: str, run: str) -> pa.Schema:
    """Return the columns that all parts have; raise StageFailed when one is gone, not what was written, or differs."""
    where = f"{root}/{run}"
    with ThreadPoolExecutor(16) as pool:
        schemas = [*pool.map(lambda part: _schema(f"{where}/{part.name}", part), parts)]
    for part, schema in zip(parts, schemas, strict=True):
        if schema != schemas[0]:
            odd = sorted({field.name for field in set(schema) ^ set(schemas[0])})
            raise StageFailed(
                f"{where}/{part.name}: columns {', '.join(odd) or 'in their order'} differ from those of "
                f"{parts[0].name}; nothing is shown"
            )
    return schemas[0] if schemas else pa.schema([])


def drop_others(parts: Sequence[Part], *, root: str, run: str) -> None:
    """Remove what lies beside the parts of a committed run."""
    named = {part.name for part in parts}
    if is_url(root):
        remove_objects(f"{root}/{run}", besides=named)
        return
    for path in Path(root, run).glob("*"):
        if path.name not in named:
            path.unlink(missing_ok=True)


def _schema(name: str, part: Part) -> pa.Schema:
    try:
        with opened(name) as file:
            size = file.size()
            if size != part.size_bytes:
                raise StageFailed(f"{name}: has {size} bytes, {part.size_bytes} were written; nothing is shown")
            return open_parquet(file, where=name).schema_arrow.remove_metadata()
    except DataError as error:
        raise StageFailed(f"{name}: part cannot be committed: {error}; nothing is shown") from error


def _stored(table: pa.Table) -> pa.Table:
    wanted = pa.schema([(field.name, _type(field.type)) for field in table.schema])
    bad = [f"{field.name!r} ({field.type})" for field in wanted if _unknown(field.type)]
    if bad:
        raise StageFailed(f"sink delta: no type of Delta holds column {', '.join(bad)}; leave it out, or use parquet")
    try:
        return table.cast(wanted)
    except (pa.ArrowException, ValueError) as error:
        raise StageFailed(f"sink delta: a value does not fit a type of Delta: {error}") from error


def _type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _type(kind.value_type)
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", "UTC" if kind.tz else None)
    return _STORED.get(kind, kind)


def _unknown(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (pa.types.is_time, pa.types.is_duration, pa.types.is_interval))


def _writer(file: Any, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(file, schema, compression="snappy", write_page_checksum=True)
