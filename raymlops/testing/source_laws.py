"""The laws of a source: every row once, in order, by pieces that can be read apart and again."""

from dataclasses import replace

import pyarrow as pa

from raymlops.errors import DataError
from raymlops.protocols import Source
from raymlops.values import Piece

__all__ = ["check_source"]


def check_source(source: Source, rows: pa.Table) -> None:
    """Raise AssertionError unless the source holds exactly these rows and keeps every law of the joint."""
    assert isinstance(source, Source)
    names = rows.column_names
    assert source.schema().names == names, "the schema names the columns"
    pieces = source.pieces()
    assert pieces == source.pieces(), "pieces are the same each time"
    parts = [_read(source, piece) for piece in pieces]
    assert pa.concat_tables(parts).to_pylist() == rows.to_pylist(), "together the pieces hold every row once"
    for piece, part in zip(pieces, parts, strict=True):
        assert piece.rows in (None, part.num_rows), "a piece knows its rows or does not say"
        assert _read(source, piece).equals(part), "a piece reads the same again"
        assert part.schema.names == names, "a piece has the schema's columns"
        some = _read(source, piece, [names[-1], names[0]])
        assert some.column_names == [names[-1], names[0]], "columns come as asked"
        assert some.column(0).to_pylist() == part.column(names[-1]).to_pylist(), "columns keep their values"
        assert not _reads(source, replace(piece, fingerprint="another")), "rows that changed since are refused"


def _read(source: Source, piece: Piece, columns: list[str] | None = None) -> pa.Table:
    nothing = source.schema().empty_table()
    empty = nothing if columns is None else nothing.select(columns)
    return pa.concat_tables([empty, *source.read(piece, columns=columns)]).combine_chunks()


def _reads(source: Source, piece: Piece) -> bool:
    try:
        _read(source, piece)
    except DataError:
        return False
    return True
