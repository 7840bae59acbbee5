"""Files of a run on a file system: written aside and fsynced, shown by one rename. Knows nothing of formats."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import pyarrow as pa

from raymlops.codec import digest_file, write_aside
from raymlops.errors import StageFailed
from raymlops.values import Part

__all__ = ["commit_folder", "write_parts"]


class _Writer(Protocol):
    def write_table(self, table: pa.Table) -> None: ...

    def close(self) -> None: ...


def write_parts(
    tables: Iterable[pa.Table],
    *,
    folder: Path,
    run: str,
    name: str,
    ending: str,
    limit: int,
    writer: Callable[[Any, pa.Schema], _Writer],
) -> list[Part]:
    """Write tables as files `NAME-000ENDING`, `NAME-001ENDING`… of at most `limit` rows below `folder/.RUN`.

    Each file is fsynced before it gets its name. Raise StageFailed with the cause, such as a full disk.
    """
    hidden = folder / f".{run}"
    made = []
    try:
        hidden.mkdir(parents=True, exist_ok=True)
        for index, chunk in enumerate(_files(tables, limit)):
            made.append(_write_part(hidden / f"{name}-{index:03}{ending}", chunk, writer))
    except (OSError, pa.ArrowException) as error:
        raise StageFailed(f"{hidden}: {name} cannot be written: {error}") from error
    return made


def commit_folder(folder: Path, *, run: str, parts: Sequence[Part], manifest: bytes) -> bool:
    """Rename `folder/.RUN` to `folder/RUN` once every part is in it; False if `folder/RUN` is there already."""
    hidden, shown = folder / f".{run}", folder / run
    try:
        if shown.exists():
            shutil.rmtree(hidden, ignore_errors=True)
            return False
        hidden.mkdir(parents=True, exist_ok=True)
        for part in parts:
            if (hidden / part.name).stat().st_size != part.size_bytes:
                raise StageFailed(f"{hidden / part.name}: is not the part that was written; nothing is shown")
        named = {part.name for part in parts}
        for path in hidden.iterdir():
            if path.name not in named:
                path.unlink()
        write_aside(hidden / "_manifest.json", manifest)
        _sync_folder(hidden)
        os.rename(hidden, shown)
        _sync_folder(folder)
    except OSError as error:
        if (shown / "_manifest.json").exists():
            return False  # another attempt was quicker
        raise StageFailed(f"{shown}: cannot be committed: {error}; nothing is shown") from error
    return True


def _files(tables: Iterable[pa.Table], limit: int) -> Iterator[Iterator[pa.Table]]:
    """Part a stream of tables into streams of at most `limit` rows, without holding more than one table."""
    left = iter(tables)
    held = next(left, None)
    while held is not None:

        def one() -> Iterator[pa.Table]:
            nonlocal held
            room = limit
            while held is not None and room:
                yield held.slice(0, room)
                rest = held.slice(room)
                room -= min(room, held.num_rows)
                held = rest if rest.num_rows else next(left, None)

        yield one()


def _write_part(path: Path, tables: Iterator[pa.Table], writer: Callable[[Any, pa.Schema], _Writer]) -> Part:
    aside = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    rows = 0
    try:
        with aside.open("xb") as file:
            first = next(tables)
            opened = writer(file, first.schema)
            try:
                for table in chain([first], tables):
                    opened.write_table(table)
                    rows += table.num_rows
            finally:
                opened.close()
            file.flush()
            os.fsync(file.fileno())
        part = Part(name=path.name, rows=rows, size_bytes=aside.stat().st_size, sha256=digest_file(aside))
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    return part


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
