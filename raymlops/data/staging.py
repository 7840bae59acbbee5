"""Files of a run on a file system: written aside and fsynced, shown by one rename. Knows nothing of formats.

Until the commit the parts of a run lie in `FOLDER/.RUN` as `NAME.part`, a name that no pattern of data files fits. A
commit links them into a folder of its own and renames that to `FOLDER/RUN`. So two commits of a run never touch each
other's files, and whatever an orphan writes later ends in `FOLDER/.RUN`, not in what readers see.
"""

import errno
import glob
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import pyarrow as pa

from raymlops.codec import digest_file, write_aside
from raymlops.errors import StageFailed
from raymlops.values import Part

__all__ = ["MANIFEST", "Opener", "commit_folder", "cut", "drop_staged", "place", "staged", "write_file", "write_parts"]

MANIFEST = "_manifest.json"
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK}


class _Writer(Protocol):
    def write_table(self, table: pa.Table) -> None: ...

    def close(self) -> None: ...


Opener = Callable[[Any, pa.Schema], _Writer]


def write_parts(
    tables: Iterable[pa.Table], *, folder: Path, run: str, name: str, ending: str, limit: int, writer: Opener
) -> list[Part]:
    """Write tables as parts `NAME-000ENDING`, `NAME-001ENDING`… of at most `limit` rows below `folder/.RUN`.

    Parts are durable when this returns. Raise StageFailed with the cause, such as a full disk.
    """
    hidden = folder / f".{run}"
    made = []
    try:
        for index, chunk in enumerate(cut(tables, limit)):
            path = _staged_path(hidden, f"{name}-{index:03}{ending}")
            written = write_file(chunk, writer=writer, path=path.with_name(f".{path.name}.{uuid4().hex[:8]}"))
            place(path.with_name(written.name), path)
            made.append(replace(written, name=f"{name}-{index:03}{ending}"))
    except (OSError, pa.ArrowException) as error:
        raise StageFailed(f"{hidden}: {name} cannot be written: {error}") from error
    return made


def cut(tables: Iterable[pa.Table], limit: int) -> Iterator[Iterator[pa.Table]]:
    """Part a stream of tables into streams of 1 to `limit` rows, without holding more than one table."""
    left = (table for table in tables if table.num_rows)
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


def write_file(tables: Iterator[pa.Table], *, writer: Opener, path: Path) -> Part:
    """Write at least one table into a new file, fsync it and return what it holds; a file that fails is removed.

    Its folder is made where it is missing. Raise StageFailed when a table has another schema than the first.
    """
    _make_folder(path.parent)
    try:
        with path.open("xb") as file:
            rows = _write_tables(tables, lambda schema: writer(file, schema), path)
            file.flush()
            os.fsync(file.fileno())
        return Part(name=path.name, rows=rows, size_bytes=path.stat().st_size, sha256=digest_file(path))
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _write_tables(tables: Iterator[pa.Table], opened: Callable[[pa.Schema], _Writer], path: Path) -> int:
    first = next(tables)
    writer, rows = opened(first.schema), 0
    try:
        for table in chain([first], tables):
            if not table.schema.equals(first.schema):
                odd = sorted({field.name for field in set(table.schema) ^ set(first.schema)})
                raise StageFailed(f"{path}: tables of one part differ in columns {', '.join(odd) or 'order'}")
            writer.write_table(table)
            rows += table.num_rows
    except BaseException:
        with suppress(OSError, pa.ArrowException):
            writer.close()
        raise
    writer.close()
    return rows


def place(aside: Path, path: Path) -> None:
    """Give a file its name in the same folder, durably; a file that has the name is replaced."""
    try:
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def staged(folder: Path, *, run: str, parts: Sequence[Part]) -> list[Path]:
    """Return the files of parts that `write_parts` wrote; raise StageFailed when one is gone or of another size."""
    paths = [_staged_path(folder / f".{run}", part.name) for part in parts]
    for part, path in zip(parts, paths, strict=True):
        try:
            size = path.stat().st_size
        except OSError as error:
            raise StageFailed(f"{path}: part of run {run} is not there: {error}; nothing is shown") from error
        if size != part.size_bytes:
            raise StageFailed(f"{path}: has {size} bytes, {part.size_bytes} were written; nothing is shown")
    return paths


def drop_staged(folder: Path, *, run: str) -> None:
    """Remove what is staged of a run, as far as it can be removed; only for a run that is committed."""
    shutil.rmtree(folder / f".{run}", ignore_errors=True)
    for left in folder.glob(f".{glob.escape(run)}.commit-*"):
        shutil.rmtree(left, ignore_errors=True)


def commit_folder(folder: Path, *, run: str, parts: Sequence[Part], manifest: bytes) -> bool:
    """Show exactly these parts and the manifest as `folder/RUN`; False if the run was committed before.

    Raise StageFailed, with nothing shown, when a part is not there or a step fails.
    """
    shown = folder / run
    first = not _committed(shown)
    if first:
        try:
            first = _show(folder, run, parts, manifest)
        except OSError as error:
            raise StageFailed(f"{shown}: cannot be committed: {error}; nothing is shown") from error
    try:
        _sync_folder(folder)
    except OSError as error:
        raise StageFailed(f"{shown}: is shown, but may not outlast a power cut: {error}; commit again") from error
    drop_staged(folder, run=run)
    return first


def _show(folder: Path, run: str, parts: Sequence[Part], manifest: bytes) -> bool:
    shown, own = folder / run, folder / f".{run}.commit-{uuid4().hex[:8]}"
    try:
        _make_folder(own)
        for part, path in zip(parts, staged(folder, run=run, parts=parts), strict=True):
            _link(path, own / part.name)
        write_aside(own / MANIFEST, manifest)
        _sync_folder(own)
        os.rename(own, shown)
    except (OSError, StageFailed):
        if _committed(shown):
            return False  # another attempt was quicker
        raise
    finally:
        shutil.rmtree(own, ignore_errors=True)
    return True


def _link(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copyfile(path, target)
        with target.open("rb") as file:
            os.fsync(file.fileno())


def _committed(shown: Path) -> bool:
    return (shown / MANIFEST).exists()


def _staged_path(hidden: Path, name: str) -> Path:
    return hidden / f"{name}.part"


def _make_folder(folder: Path) -> None:
    """Make a folder and its parents so that they outlast a power cut."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
