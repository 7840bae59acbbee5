"""Find data files and name their content. Knows nothing of formats."""

import glob
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from raymlops.codec import digest_file
from raymlops.errors import DataError
from raymlops.spec import expand
from raymlops.values import Piece

__all__ = ["fingerprint", "found", "same_schema", "unchanged"]


def found(path: str, *, ending: str) -> list[str]:
    """Return the absolute paths of the data files that a file, glob or folder names, sorted; at least one."""
    whole = expand(path)
    if Path(whole).is_dir():
        names = glob.glob(f"{glob.escape(whole)}/**/*{ending}", recursive=True)
    else:
        names = [name for name in glob.glob(whole, recursive=True) if Path(name).is_file()]
    files = sorted(os.path.abspath(name) for name in names if not Path(name).name.startswith(("_", ".")))
    if not files:
        raise DataError(f"{path}: no file found (looked for {whole}); name a file, a glob or a folder of *{ending}")
    return files


def fingerprint(file: str) -> str:
    """Return the sha256 of a file's bytes; remembered while its size and time of change stay the same."""
    try:
        state = os.stat(file)
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error}") from error
    return _fingerprint(file, state.st_size, state.st_mtime_ns)


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


@lru_cache(maxsize=100_000)
def _fingerprint(file: str, size: int, changed_ns: int) -> str:
    return digest_file(Path(file))
