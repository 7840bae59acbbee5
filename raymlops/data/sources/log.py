"""Logs that services append to: JSON lines, an object a line, in files that are rotated. A piece is some of its bytes.

A file is known by its inode and by the bytes of it that were read, so it is followed when rotation renames it. A last
line without its newline is not there yet. Rotation must rename (copying and cutting short loses lines, and is refused
once it is seen), and a rotated file must stay, and not be compressed, until it has been read.
"""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal

import pyarrow as pa

from raymlops.codec import digest
from raymlops.data.files import found
from raymlops.data.messages import infer_columns, schema_of, to_rows
from raymlops.errors import DataError, SpecError
from raymlops.plugins import build
from raymlops.spec import expand
from raymlops.telemetry import say
from raymlops.values import JsonValue, Piece

__all__ = ["Log"]

_BYTES_OF_A_PIECE = 64 << 20
_BYTES_AT_ONCE = 4 << 20
_BLOCK = 1 << 16
_MARK = 1 << 10
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip", ".lz4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """The bytes [``begin``, ``end``) of a file, whole lines; ``mark`` tells it from another that has its inode.

    ``missed``: it was not there when it was last looked for.
    """

    path: str
    inode: int
    begin: int
    end: int
    mark: str
    missed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """`path`: a folder, a glob, or a file, with the names that rotation gives it (`app.log` is `app.log*`).

    `columns`: name and Arrow type of the columns, else inferred from the newest lines, and then kept; `max_bytes`:
    how much one source of `since` holds, up to the end of a line; `group`: another name reads the logs from their start
    again; `gaps`: fail, or skip where a file was cut short. `files` cuts the logs; `since` gives it.
    """

    path: str
    columns: dict[str, str] | None = None
    max_bytes: int | None = None
    group: str = ""
    gaps: Literal["fail", "skip"] = "fail"
    files: tuple[Stretch, ...] | None = None

    def __post_init__(self) -> None:
        schema_of(self.columns or {}, where="columns")
        if self.max_bytes is not None and self.max_bytes < 1:
            raise SpecError(f"max_bytes: {self.max_bytes} given, at least 1 is allowed")

    def identity(self) -> str:
        """Return the path as the spec names it, and the group."""
        return f"log {self.path} {self.group}"

    def since(self, last: JsonValue | None) -> Sequence[JsonValue]:
        """Return the lines that are there now and whole, oldest file first, cut after about `max_bytes`.

        Raise DataError, unless `gaps` is skip, when a file was cut short or written anew.
        """
        before = None if last is None else build("raymlops.data.sources", last, where="the last source")
        files = self._stretches(before.files if before else ())
        if all(one.begin == one.end for one in files):
            return []
        columns = self.columns or {**self._inferred(files), **((before.columns if before else None) or {})}
        cut = replace(self, columns=columns)
        return [{"log": asdict(replace(cut, files=share))} for share in self._shares(files)]

    def schema(self) -> pa.Schema:
        """Return the columns."""
        return schema_of(self.columns or self._inferred(self._files()), where="columns")

    def pieces(self) -> Sequence[Piece]:
        """Return pieces of about 64 MiB, file by file, each in the order of its lines."""
        return [piece for stretch in self._files() if stretch.begin < stretch.end for piece in self._pieces(stretch)]

    def read(self, piece: Piece, *, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the rows of the lines, some megabytes at a time; empty lines are none."""
        schema = self.schema()
        names = schema.names if columns is None else [*columns]
        absent = [name for name in names if name not in schema.names]
        if absent:
            raise DataError(f"{piece.source}: has no column {', '.join(absent)}; it has {', '.join(schema.names)}")
        read = pa.schema([schema.field(name) for name in names])
        with self._open(piece.source, piece.part + piece.parts, piece.fingerprint) as file:
            file.seek(piece.part)
            for lines in _lines(file, piece.part + piece.parts):
                yield to_rows([line for _, line in lines], [f"byte {at}" for at, _ in lines], read)

    def _files(self) -> tuple[Stretch, ...]:
        return self._stretches(()) if self.files is None else self.files

    def _paths(self) -> list[str]:
        path = expand(self.path)
        whole = path if glob.has_magic(path) or Path(path).is_dir() else f"{glob.escape(path)}*"
        return [name for name in found(whole, endings=("",)).names if not name.endswith(_COMPRESSED)]

    def _stretches(self, before: Iterable[Stretch]) -> tuple[Stretch, ...]:
        """Return what is there of each file, oldest first, from where it was read `before`."""
        left = {one.inode: one for one in before}
        made: dict[int, tuple[int, Stretch]] = {}
        for path in self._paths():
            with suppress(FileNotFoundError), open(path, "rb") as file:
                state = os.fstat(file.fileno())
                if state.st_ino in made:
                    continue  # it was renamed between two looks
                last = left.pop(state.st_ino, None)
                if last is not None and not _holds(file, last.end, last.mark):
                    self._cut_short(last, path)
                    last = None
                begin = last.end if last else 0
                end = _after_last_line(file, begin, state.st_size)
                one = Stretch(path=path, inode=state.st_ino, begin=begin, end=end, mark=_mark(file, end))
                made[state.st_ino] = (state.st_mtime_ns, one)
        # Rotation may hide a file from one look, so it is forgotten only after two.
        missed = (replace(one, begin=one.end, missed=True) for one in left.values() if not one.missed)
        return (*(one for _, one in sorted(made.values(), key=lambda pair: (pair[0], pair[1].path))), *missed)

    def _cut_short(self, last: Stretch, path: str) -> None:
        if path != last.path:
            return  # the file that had this inode is gone, another has it now
        what = f"{path}: was cut short or written anew after {last.end} bytes of it were read"
        if self.gaps == "fail":
            raise DataError(f"{what}; let rotation rename files. `gaps: skip` goes on with what it holds now")
        say(f"source log: {what}; it goes on with what it holds now")

    def _pieces(self, stretch: Stretch) -> Iterator[Piece]:
        with self._open(stretch.path, stretch.end, stretch.mark) as file:
            at = stretch.begin
            while at < stretch.end:
                end = _line_end(file, at, stretch.end, _BYTES_OF_A_PIECE)
                yield Piece(source=stretch.path, part=at, parts=end - at, rows=None, fingerprint=_mark(file, end))
                at = end

    def _inferred(self, files: Iterable[Stretch]) -> dict[str, str]:
        lines: list[bytes] = []
        for one in (one for one in files if one.begin < one.end):
            with self._open(one.path, one.end, one.mark) as file:
                file.seek(max(0, one.end - _BLOCK))
                lines += file.read(one.end - file.tell()).splitlines()
        return infer_columns(lines)

    def _shares(self, files: Sequence[Stretch]) -> Iterator[tuple[Stretch, ...]]:
        """Yield the stretches cut so that each share holds about `max_bytes`, older files first."""
        left = list(files)
        while any(one.begin < one.end for one in left):
            room, share = self.max_bytes, []
            for one in left:
                share.append(one if room is None or one.end - one.begin <= room else self._cut(one, room))
                room = None if room is None else max(0, room - (share[-1].end - one.begin))
            yield tuple(share)
            left = [replace(one, begin=done.end) for one, done in zip(left, share, strict=True)]

    def _cut(self, stretch: Stretch, room: int) -> Stretch:
        with self._open(stretch.path, stretch.end, stretch.mark) as file:
            end = _line_end(file, stretch.begin, stretch.end, room) if room else stretch.begin
            return replace(stretch, end=end, mark=_mark(file, end))

    def _open(self, path: str, end: int, mark: str) -> BinaryIO:
        """Open the file that had this name, whatever it is now; raise DataError when it is gone or changed."""
        for name in dict.fromkeys([path, *self._paths()]):
            with suppress(FileNotFoundError), ExitStack() as held:
                file = held.enter_context(open(name, "rb"))
                if _holds(file, end, mark):
                    held.pop_all()
                    return file
        raise DataError(f"{path}: changed while it was being read: what it held up to byte {end} is nowhere now")


def _lines(file: BinaryIO, end: int) -> Iterator[list[tuple[int, bytes]]]:
    at = file.tell()
    while at < end:
        held = []
        first = at
        while at < min(end, first + _BYTES_AT_ONCE):
            line = file.readline()
            if line.strip():
                held.append((at, line.rstrip(b"\r\n")))
            at += len(line)
        if held:
            yield held


def _line_end(file: BinaryIO, begin: int, end: int, most: int) -> int:
    """Return the end of the line that holds byte begin + most - 1, or `end` if that comes first."""
    if end - begin <= most:
        return end
    file.seek(begin + most - 1)
    file.readline()
    return file.tell()


def _after_last_line(file: BinaryIO, begin: int, size: int) -> int:
    at = size
    while at > begin:
        block = max(begin, at - _BLOCK)
        file.seek(block)
        newline = file.read(at - block).rfind(b"\n")
        if newline >= 0:
            return block + newline + 1
        at = block
    return begin


def _holds(file: BinaryIO, end: int, mark: str) -> bool:
    return os.fstat(file.fileno()).st_size >= end and _mark(file, end) == mark


def _mark(file: BinaryIO, end: int) -> str:
    """Return a digest of a file's inode and of its first and last bytes up to `end`."""
    file.seek(0)
    head = file.read(min(_MARK, end))
    file.seek(max(0, end - _MARK))
    return digest([os.fstat(file.fileno()).st_ino, end, head.hex(), file.read(min(_MARK, end)).hex()])[:16]
