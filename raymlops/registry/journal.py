"""What became of a model, who did it, when and why: a journal to which lines are only added. Knows nothing of MLflow.

A line holds the sha256 of the line before it, so an edit breaks the chain from there on, and is signed by whoever has
a key. That lines are gone at the end no chain can tell: whoever appends gets the number and the hash of the last line,
to be kept elsewhere.
"""

import fcntl
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from raymlops.codec import dumps
from raymlops.errors import Conflict
from raymlops.registry.keys import is_signed, own_key
from raymlops.spec import home
from raymlops.values import JsonValue

__all__ = ["Entry", "aliases_at", "append", "exists", "is_genuine", "read", "tip"]

_FIRST = "0" * 64
_MOST_LINE = 2**20
_OUTSIDE = ("hash", "signature")  # of what the hash is made of


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line. ``what``: registered, approved, alias, served or stopped; ``alias`` went, or may go, from version
    ``before`` to ``version``.

    ``time``: ISO 8601, UTC. ``hash`` is that of the line itself, ``previous`` of the one before. ``signature``, of the
    hash, is by ``key``, a public one; both are empty where who wrote had none.
    """

    number: int
    time: str
    who: str
    what: str
    version: int | None
    alias: str = ""
    before: int | None = None
    why: str = ""
    evidence: Mapping[str, JsonValue] = field(default_factory=dict)
    previous: str = _FIRST
    key: str = ""
    hash: str = ""
    signature: str = ""

    @property
    def moment(self) -> datetime:
        """When it was written, in UTC."""
        return datetime.fromisoformat(self.time)


def append(
    name: str,
    what: str,
    *,
    who: str,
    version: int | None,
    alias: str = "",
    before: int | None = None,
    why: str = "",
    evidence: Mapping[str, JsonValue] | None = None,
) -> Entry:
    """Add a line, durably, and return it; one process at a time. Raise Conflict when the journal is not whole."""
    path, key = _path(name), own_key()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        last = _last(path, file)
        values = {
            "number": last.number + 1 if last else 1,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "who": who,
            "what": what,
            "version": version,
            "alias": alias,
            "before": before,
            "why": why,
            "evidence": dict(evidence or {}),
            "previous": last.hash if last else _FIRST,
            "key": key.public if key else "",
        }
        line: dict[str, Any] = {**values, "hash": _hash(values)}
        line["signature"] = key.sign(line["hash"].encode()) if key else ""
        made = Entry(**line)
        file.write(dumps(line) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return made


def read(name: str, *, signatures: bool = True) -> list[Entry]:
    """Return the lines; raise Conflict at the first that is not as it was written.

    To check a signature takes ten times as long as the rest of a line: who uses few lines may ask `is_genuine` of them.
    """
    path = _path(name)
    if not path.exists():
        return []
    entries: list[Entry] = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        entry = _parsed(path, number, line, signatures=signatures)
        before = entries[-1].hash if entries else _FIRST
        if entry.number != number or entry.previous != before:
            raise Conflict(f"{path}, line {number}: does not follow the line before it; lines were cut out or moved")
        entries.append(entry)
    return entries


def is_genuine(entry: Entry) -> bool:
    """Return whether a line is signed by the key that it names; one without either is."""
    return not (entry.key or entry.signature) or is_signed(entry.hash.encode(), entry.signature, entry.key)


def exists(name: str) -> bool:
    """Return whether anything is written of a model."""
    return _path(name).exists()


def aliases_at(entries: Sequence[Entry]) -> dict[str, int]:
    """Return where each alias stands after these lines."""
    found: dict[str, int] = {}
    for entry in entries:
        if entry.what == "alias" and entry.version is not None:
            found[entry.alias] = entry.version
        elif entry.what == "alias":
            found.pop(entry.alias, None)
    return found


def tip(entry: Entry) -> str:
    """Return what is kept elsewhere of the last line: its number and its hash."""
    return f"{entry.number}:{entry.hash}"


def _path(name: str) -> Path:
    return home() / "journal" / f"{name}.jsonl"


def _hash(values: Mapping[str, object]) -> str:
    return sha256(dumps({key: value for key, value in values.items() if key not in _OUTSIDE})).hexdigest()


def _parsed(path: Path, number: int, line: bytes, *, signatures: bool = True) -> Entry:
    try:
        values = orjson.loads(line)
        entry = Entry(**values)
    except (ValueError, TypeError) as error:
        raise Conflict(f"{path}, line {number}: is not as it was written ({error}); restore the file") from error
    if entry.hash != _hash(values):
        raise Conflict(f"{path}, line {number}: was changed after it was written; restore the file")
    if signatures and not is_genuine(entry):
        raise Conflict(f"{path}, line {number}: its signature is not by the key that it names; restore the file")
    return entry


def _last(path: Path, file: BinaryIO) -> Entry | None:
    """Return the last line. What a crash left half written behind it is cut off: nobody was told that it is there."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _MOST_LINE))
    content = file.read()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        file.truncate(size - len(content) + len(whole))
    lines = whole.splitlines()
    if not lines:
        return None
    number = orjson.loads(lines[-1]).get("number", 0) if lines[-1].startswith(b"{") else 0
    return _parsed(path, number, lines[-1])
