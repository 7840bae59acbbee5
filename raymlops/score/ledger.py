"""The record of a batch run: who attempts it, and which pieces are done. Knows nothing of rows or of Ray.

Each attempt appends to a file of its own, so that an orphan of an earlier one never writes between its lines; a line
that a crash cut short is not read. A piece is recorded only after its parts are durable.
"""

import errno
import getpass
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from raymlops.codec import dumps, write_aside
from raymlops.errors import Conflict, StageFailed
from raymlops.values import Part

__all__ = ["Attempt", "PieceCount", "begin", "done", "recording"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceCount:
    """What became of a piece's rows: rows_in = scored + dead + filtered. ``rules`` counts the rules broken.

    ``cause`` says why a piece could not be read; its rows are then dead where their number is known.
    """

    index: int
    rows_in: int
    scored: int
    dead: int
    filtered: int
    parts: tuple[Part, ...] = ()
    rules: Mapping[str, int]
    letters: tuple[Part, ...] = ()
    cause: str = ""

    def to_json(self) -> bytes:
        """Return one line of JSON."""
        return dumps(asdict(self))

    @staticmethod
    def from_json(line: bytes | str) -> "PieceCount":
        """Return the count of a line; raise ValueError, KeyError or TypeError for a line that is not one."""
        value: dict[str, Any] = orjson.loads(line)
        files = {name: tuple(Part(**part) for part in value[name]) for name in ("parts", "letters")}
        return PieceCount(**{**value, **files})


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One driver's try at a run, the only one that may write `pieces-NUMBER.jsonl`."""

    folder: Path
    number: int
    handle: int

    def add(self, count: PieceCount) -> None:
        """Record a piece as done; raise StageFailed when the record cannot be written."""
        line = count.to_json() + b"\n"
        with recording(self.folder):
            if os.write(self.handle, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def check(self) -> None:
        """Raise Conflict when a later attempt has begun: it does what is left, this one must not commit."""
        later = _claim_path(self.folder, self.number + 1)
        if later.exists():
            by = orjson.loads(later.read_bytes())
            raise Conflict(
                f"score: attempt {self.number} of run {self.folder.name} was taken over by attempt "
                f"{self.number + 1} ({by['user']}, pid {by['pid']} on {by['host']}, {by['begun']}), which commits"
            )


@contextmanager
def begin(folder: Path) -> Iterator[Attempt]:
    """Begin the next attempt of the run in `folder`; every earlier one is fenced off from now on.

    Raise StageFailed when the record cannot be written.
    """
    with recording(folder):
        number = 1 + max((int(path.stem) for path in (folder / "attempts").glob("*.json")), default=0)
        while not write_aside(_claim_path(folder, number), dumps(_who()), replace=False):
            number += 1
        handle = os.open(folder / f"pieces-{number:05}.jsonl", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
    try:
        yield Attempt(folder=folder, number=number, handle=handle)
    finally:
        os.close(handle)


@contextmanager
def recording(folder: Path) -> Iterator[None]:
    """Raise StageFailed, with the cause, when a file of a run's record cannot be written in the block."""
    try:
        yield
    except OSError as error:
        raise StageFailed(
            f"score: the record in {folder} cannot be written: {error}; mend that, then the same command goes on"
        ) from error


def done(folder: Path) -> dict[int, PieceCount]:
    """Return the count of each piece that some attempt has finished."""
    found = {}
    for path in sorted(folder.glob("pieces-*.jsonl")):
        for line in path.read_bytes().splitlines():
            try:
                count = PieceCount.from_json(line)
            except (ValueError, KeyError, TypeError):
                continue  # cut short by a crash: the piece is done again
            found[count.index] = count
    return found


def _claim_path(folder: Path, number: int) -> Path:
    return folder / "attempts" / f"{number:05}.json"


def _who() -> dict[str, object]:
    return {
        "user": getpass.getuser(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "begun": datetime.now(UTC).isoformat(timespec="seconds"),
    }
