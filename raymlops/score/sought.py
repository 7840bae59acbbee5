"""The rows that an earlier run left dead, as its dead letters name them, to be found again. Knows nothing of models.

A row is found by its key, in the files that hold dead letters; where such a file is gone, in every file. Of a file that
was left out, each row is sought. Of a piece of a file that was read otherwise, each row if the piece is cut as before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from raymlops.data import key_texts, run_folder
from raymlops.errors import DataError
from raymlops.plugins import build
from raymlops.protocols import Source
from raymlops.score.ledger import PieceCount
from raymlops.values import JsonValue, Piece

__all__ = ["DEAD", "Sought", "left_out", "sought"]

DEAD = "dead"  # the folder of the dead letters, beside the record of their run

_Cut = tuple[str, int, int, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sought:
    """``rows``: how many dead rows there are; ``keyed``: those that have a key, which are in ``keys`` and ``sources``.

    ``files``: those that were left out whole; ``cuts``: pieces left out of files that were read otherwise.
    """

    run: str
    rows: int
    keyed: int
    keys: frozenset[str]
    sources: frozenset[str]
    files: frozenset[str]
    cuts: frozenset[_Cut]

    def pieces(self, pieces: Sequence[Piece]) -> list[Piece]:
        """Return the pieces in which a row may be."""
        gone = self.sources - {piece.source for piece in pieces}
        return [piece for piece in pieces if gone or piece.source in self.sources or self.whole(piece)]

    def whole(self, piece: Piece) -> bool:
        """Return whether every row of the piece is sought."""
        return piece.source in self.files or _cut(piece) in self.cuts

    def mask(self, piece: Piece, rows: pa.Table, key: Sequence[str]) -> Any:
        """Return which rows of a table of the piece are sought; bool [rows]."""
        if self.whole(piece):
            return np.ones(rows.num_rows, dtype=np.bool_)
        return np.array([text in self.keys for text in key_texts(rows, key)], dtype=np.bool_)

    def missing(self, counts: Sequence[PieceCount], pieces: Sequence[Piece]) -> int:
        """Return how many rows were not found.

        Raise DataError when none was, or when more were than there are: then a key names more than one row.
        """
        by_key = sum(count.rows_in for count, piece in zip(counts, pieces, strict=True) if not self.whole(piece))
        if by_key > self.keyed:
            raise DataError(
                f"data.key: {by_key:,} rows have the keys of {self.keyed:,} dead rows of run {self.run}; name columns "
                "that together name one row; nothing was published"
            )
        if not any(count.rows_in for count in counts):
            raise DataError(
                f"score: none of the rows that run {self.run} left dead is in the source now "
                f"({self.rows:,} rows, {len(self.files):,} files left out); nothing was published"
            )
        return self.rows - by_key


def sought(name: str, run: str) -> Sought:
    """Return what a committed run of the model `name` left dead."""
    folder = run_folder(name, run)
    source: Source = build("raymlops.data.sources", {"parquet": str(folder / DEAD)}, where="dead letters")
    rows, keyed, keys, sources = set(), set(), set(), set()
    for table in (table for piece in source.pieces() for table in source.read(piece)):
        for letter in table.filter(table.column("row").is_valid()).to_pylist():
            place = letter["source"], letter["part"], letter["row"]
            rows.add(place)
            if _names_a_row(letter["key"]):
                keyed.add(place)
                keys.add(letter["key"])
                sources.add(letter["source"])
    out = orjson.loads((folder / "manifest.json").read_bytes())["quarantined"]
    return Sought(
        run=run, rows=len(rows), keyed=len(keyed), keys=frozenset(keys), sources=frozenset(sources),
        files=frozenset(one["file"] for one in out if one["whole"]),
        cuts=frozenset((one["file"], one["part"], one["parts"], one["rows"]) for one in out if not one["whole"]),
    )  # fmt: skip


def left_out(counts: Sequence[PieceCount], pieces: Sequence[Piece], *, within: Sought | None) -> list[JsonValue]:
    """Return the pieces that could not be read, for the manifest, and whether nothing of their file ever was."""
    read = {piece.source for count, piece in zip(counts, pieces, strict=True) if not count.cause}
    return [
        {
            "file": piece.source,
            "part": piece.part,
            "parts": piece.parts,
            "rows": piece.rows,
            "whole": piece.source not in read and (within is None or piece.source in within.files),
            "cause": count.cause,
        }
        for count, piece in zip(counts, pieces, strict=True)
        if count.cause
    ]


def _cut(piece: Piece) -> _Cut:
    return piece.source, piece.part, piece.parts, piece.rows


def _names_a_row(key: str | None) -> bool:
    values = orjson.loads(key) if key else {}
    return bool(values) and None not in values.values()
