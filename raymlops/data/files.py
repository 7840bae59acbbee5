"""Find data files and tell whether they are still what they were. Knows nothing of formats."""

import glob
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from raymlops.codec import digest, digest_file
from raymlops.errors import DataError
from raymlops.spec import expand
from raymlops.values import Piece

__all__ = ["content", "fingerprint", "found", "same_schema", "unchanged"]

_TAIL = 1 << 16


def found(path: str, *, ending: str) -> list[str]:
    """Return the absolute paths of the data files that a file, glob or folder names, sorted; at least one."""
    whole = expand(path)
    if Path(whole).is_dir():
        names = glob.glob(f"{glob.escape(whole)}/**/*{ending}", recursive=True)
    else:
        names = glob.glob(whole, recursive=True)
    files = sorted(
        os.path.abspath(name) for name in names if Path(name).is_file() and not Path(name).name.startswith(("_", "."))
    )
    if not files:
        raise DataError(f"{path}: no file found (looked for {whole}); name a file, a glob or a folder of *{ending}")
    return files


def fingerprint(file: str) -> str:
    """Return what changes whenever a file is written again: a digest of its name, size, time of change and last bytes.

    It costs the same for a file of any size. Where the format keeps statistics at the end, as Parquet does, the last
    bytes tell files apart that were copied with the time of another.
    """
    state = _state(file)
    with open(file, "rb") as stream:
        stream.seek(max(0, state.st_size - _TAIL))
        tail = stream.read(_TAIL)
    return digest([os.path.basename(file), state.st_size, state.st_mtime_ns, tail.hex()])


def content(file: str) -> str:
    """Return the sha256 of a file's bytes; remembered while its size and time of change stay the same."""
    state = _state(file)
    return _content(file, state.st_size, state.st_mtime_ns)


@contextmanager
def unchanged(piece: Piece) -> Iterator[str]:
    """Give the piece's file for reading; raise DataError if, before or after, it is not the one the piece names."""
    _compare(piece)
    yield piece.source
    _compare(piece)


def same_schema(schemas: Sequence[tuple[str, pa.Schema]]) -> pa.Schema:
    """Return the one schema of all files; raise DataError that names the first file and column that differ."""
    first, expected = schemas[0]
    for file, schema in schemas[1:]:
        if schema.names != expected.names:
            odd = sorted(set(schema.names) ^ set(expected.names))
            raise DataError(f"{file}: its columns differ from those of {first} in {', '.join(odd) or 'their order'}")
        for field in schema:
            known = expected.field(field.name).type
            if field.type != known and not pa.types.is_null(field.type):
                raise DataError(f"{file}: column {field.name!r} is {field.type}, in {first} it is {known}")
    return expected


def _compare(piece: Piece) -> None:
    if fingerprint(piece.source) != piece.fingerprint:
        raise DataError(f"{piece.source}: changed while it was being read; let its writer end, then run again")


def _state(file: str) -> os.stat_result:
    try:
        return os.stat(file)
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error}") from error


@lru_cache(maxsize=100_000)
def _content(file: str, size: int, changed_ns: int) -> str:
    return digest_file(Path(file))
