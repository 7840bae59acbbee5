"""Shards of a query's result: ranges of one column's values, what is in them, and their names in pieces.

Ranges are half-open and drawn between values that the database tells apart, so that equal keys stay together; rows
without a key are a shard of their own. The sum of the hashes of its rows tells whether a shard is what it was.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson

from raymlops.codec import digest, dumps
from raymlops.errors import DataError
from raymlops.values import JsonValue, Piece

__all__ = ["MODULUS", "WHOLE", "Content", "Shard", "from_json", "make_piece", "shard_of", "to_json"]

MODULUS = 1 << 64  # of the sum of hashes


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Rows with `first` <= key < `last`, None for no bound, or with `nulls` those without a key; `by` None for all."""

    by: str | None = None
    first: JsonValue = None
    last: JsonValue = None
    nulls: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """How many rows there are, and the sum of their hashes modulo 2**64: equal for equal rows in any order."""

    rows: int = 0
    total: int = 0

    def __add__(self, other: "Content") -> "Content":
        return Content(rows=self.rows + other.rows, total=(self.total + other.total) % MODULUS)


WHOLE = Shard()


def make_piece(index: int, query: str, shard: Shard, content: Content, types: str) -> Piece:
    """Return a piece that names the shard; its fingerprint covers the query, the types and every value of the rows."""
    name = query if shard.by is None else dumps({"query": query, **_named(shard)}).decode()
    mark = digest([query, _named(shard), types, content.rows, str(content.total)])
    return Piece(source=name, part=index, rows=content.rows, fingerprint=mark)


def shard_of(piece: Piece, *, by: str | None) -> Shard:
    """Return the shard that a piece names."""
    if by is None:
        return WHOLE
    try:
        value = orjson.loads(piece.source)
        return Shard(by=by, first=value.get("from"), last=value.get("to"), nulls=value.get("null", False))
    except (ValueError, AttributeError) as error:
        raise DataError(f"source sql: piece {piece.source!r:.200} is not one of a query that is sharded") from error


def _named(shard: Shard) -> dict[str, JsonValue]:
    bounds = {"from": shard.first, "to": shard.last, "null": shard.nulls or None}
    return {"by": shard.by, **{name: value for name, value in bounds.items() if value is not None}}


_READERS: dict[str, tuple[type, Callable[[Any], str], Callable[[str], Any]]] = {
    "bytes": (bytes, bytes.hex, bytes.fromhex),
    "real": (float, float.hex, float.fromhex),
    "decimal": (Decimal, str, Decimal),
    "datetime": (datetime, datetime.isoformat, datetime.fromisoformat),
    "date": (date, date.isoformat, date.fromisoformat),
    "time": (time, time.isoformat, time.fromisoformat),
    "uuid": (UUID, str, UUID),
}


def to_json(value: object) -> JsonValue:
    """Return a key as JSON that `from_json` turns back; raise DataError for what cannot be a bound.

    >>> from_json(to_json(date(2013, 1, 31)))
    datetime.date(2013, 1, 31)
    """
    if isinstance(value, int | str) and not isinstance(value, bool):
        return value
    for name, (kind, write, _) in _READERS.items():
        if isinstance(value, kind):
            return {name: write(value)}
    raise DataError(f"source sql: shard_by: values such as {value!r:.80} cannot bound a shard; name another column")


def from_json(value: JsonValue) -> object:
    """Return the key that `to_json` wrote."""
    if not isinstance(value, dict):
        return value
    ((name, text),) = value.items()
    return _READERS[name][2](str(text))
