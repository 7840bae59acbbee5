"""Find data files, in folders and in object stores, and tell whether they are still what they were.

A file is named by its absolute path or its URL. Knows nothing of formats.
"""

import fnmatch
import glob
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from raymlops.codec import digest, digest_file
from raymlops.data.folders import constants, folder_schema, folder_values
from raymlops.data.objects import shown_objects
from raymlops.data.staging import MANIFEST
from raymlops.data.stores import RemoteFile, is_url, objects, state
from raymlops.errors import DataError, SpecError
from raymlops.spec import expand
from raymlops.values import Piece

__all__ = ["Files", "content", "fingerprint", "found", "located", "opened", "same_schema"]

T = TypeVar("T")

_TAIL = 1 << 16
_AHEAD_BYTES = 4 << 20
_CODECS = {".gz": "gzip", ".zst": "zstd"}
_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class Files:
    """Data files below `root`, at least one, sorted; folders between, such as `year=2013/`, are columns."""

    root: str
    names: tuple[str, ...]

    @cached_property
    def folders(self) -> pa.Schema:
        """The columns that folders name; raise DataError where the folders of a file name others."""
        return folder_schema({name: folder_values(name, self.root) for name in self.names})

    def constants(self, name: str) -> dict[str, pa.Scalar]:
        """Return the value of each of these columns for the rows of a file."""
        return constants(folder_values(name, self.root), self.folders)

    def each(self, ask: Callable[[str], T]) -> list[tuple[str, T]]:
        """Return the files in order with what `ask` says of each; many are asked at once."""
        with ThreadPoolExecutor(min(_AT_ONCE, len(self.names))) as pool:
            return list(zip(self.names, pool.map(ask, self.names), strict=True))

    def fingerprint(self, name: str) -> str:
        """Return the `fingerprint` of a file, which covers what its folders say."""
        now = fingerprint(name)
        said = {column: str(value) for column, value in self.constants(name).items()}
        return digest([now, said, str(self.folders)]) if said else now

    @contextmanager
    def unchanged(self, piece: Piece) -> Iterator[pa.NativeFile]:
        """Give the piece's file for reading; raise DataError if, before or after, it is not the one the piece names."""
        self._compare(piece)
        with opened(piece.source) as file:
            yield file
        self._compare(piece)

    def _compare(self, piece: Piece) -> None:
        if self.fingerprint(piece.source) != piece.fingerprint:
            raise DataError(f"{piece.source}: changed while it was being read; let its writer end, then run again")


def found(path: str, *, endings: Sequence[str]) -> Files:
    """Return the data files that a file, glob or folder names, or a key, glob or prefix of an object store.

    Names that begin with `_` or `.` are not data, nor is what lies in such folders. A prefix ends in `/`. The
    `_manifest.json` of a run in a store stands for the run's parts. Raise DataError when there is no file.
    """
    whole = located(path)
    root, names = _remote(whole) if is_url(whole) else _local(whole)
    if root == whole.rstrip("/"):
        names = [name for name in names if name.endswith(tuple(endings))]
    names = sorted(n for n in names if not _hidden(n, root) and (is_url(n) or os.path.isfile(n)))
    if not names:
        kinds = ", ".join(f"*{ending}" for ending in endings)
        ways = "a key, a glob or a prefix that ends in /" if is_url(whole) else "a file, a glob or a folder"
        raise DataError(f"{path}: no file found (looked for {whole}); name {ways} of {kinds}")
    return Files(root=root, names=tuple(names))


def located(path: str) -> str:
    """Return the absolute path or URL that a path of a spec means; raise SpecError for a URL of another kind."""
    whole = expand(path)
    if "://" in whole and not is_url(whole):
        raise SpecError(f"path: {path!r} given, a path of files, s3://BUCKET/PATH or gs://BUCKET/PATH is allowed")
    return whole if is_url(whole) else os.path.abspath(whole)


def opened(name: str) -> pa.NativeFile:
    """Open a file for reading; raise DataError when it cannot be opened.

    One that ends in `.gz` or `.zst` gives what it was made of, and can only be read from its beginning on.
    """
    try:
        file = pa.PythonFile(RemoteFile(name), mode="r") if is_url(name) else pa.OSFile(name)
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error}") from error
    codec = _CODECS.get(os.path.splitext(name)[1])
    return pa.CompressedInputStream(pa.BufferedInputStream(file, _AHEAD_BYTES), codec) if codec else file


def fingerprint(file: str) -> str:
    """Return what changes whenever a file is written again: a digest of its name, size, time of change and last bytes.

    It costs the same for a file of any size. Where the format keeps statistics at the end, as Parquet does, the last
    bytes tell files apart that were copied with the time of another. Of an object it is name, size, time of change,
    ETag and version, as the store tells them.
    """
    if is_url(file):
        now = state(file)
        named = os.path.basename(file)
        return digest([named, now["size"], now["last_modified"].isoformat(), now["e_tag"], now["version"]])
    held = _state(file)
    with open(file, "rb") as stream:
        stream.seek(max(0, held.st_size - _TAIL))
        tail = stream.read(_TAIL)
    return digest([os.path.basename(file), held.st_size, held.st_mtime_ns, tail.hex()])


def content(file: str) -> str:
    """Return the sha256 of a file's bytes; remembered while its size and time of change stay the same."""
    now = _state(file)
    return _content(file, now.st_size, now.st_mtime_ns)


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


def _local(whole: str) -> tuple[str, list[str]]:
    if Path(whole).is_dir():
        return whole, glob.glob(f"{glob.escape(whole)}/**/*", recursive=True)
    return _above(whole), glob.glob(whole, recursive=True)


def _remote(whole: str) -> tuple[str, list[str]]:
    if whole.endswith("/"):
        return whole.rstrip("/"), list(objects(whole))
    root = _above(whole)
    if os.path.basename(whole) == MANIFEST:
        return root, shown_objects(whole)
    if not glob.has_magic(whole):
        state(whole)
        return root, [whole]
    patterns = whole.removeprefix(f"{root}/").split("/")
    return root, [name for name in objects(f"{root}/") if _fits(name.removeprefix(f"{root}/").split("/"), patterns)]


def _above(whole: str) -> str:
    """Return the last folder of a path or glob before the first name that is a pattern or the file's own."""
    folders = whole.split("/")[:-1]
    plain = next((index for index, folder in enumerate(folders) if glob.has_magic(folder)), len(folders))
    return "/".join(folders[:plain])


def _fits(names: Sequence[str], patterns: Sequence[str]) -> bool:
    """Return whether the parts of a path fit those of a glob, where `**` stands for any number of folders."""
    if not patterns or not names:
        return not patterns and not names
    if patterns[0] == "**":
        return any(_fits(names[skipped:], patterns[1:]) for skipped in range(len(names)))
    return fnmatch.fnmatchcase(names[0], patterns[0]) and _fits(names[1:], patterns[1:])


def _hidden(name: str, root: str) -> bool:
    *folders, own = name.removeprefix(f"{root}/").split("/")
    return own.startswith(("_", ".")) or any(f.startswith(("_", ".")) and "=" not in f for f in folders)


def _state(file: str) -> os.stat_result:
    try:
        return os.stat(file)
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {error}") from error


@lru_cache(maxsize=100_000)
def _content(file: str, size: int, changed_ns: int) -> str:
    return digest_file(Path(file))
