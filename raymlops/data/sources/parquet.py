"""Parquet files: one file, a glob, or all files below a folder or prefix. A piece is a run of row groups of a file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from raymlops.data.columns import completed, held
from raymlops.data.files import Files, found, opened, same_schema
from raymlops.data.row_groups import open_parquet, read_row_groups, row_group_pieces
from raymlops.errors import DataError
from raymlops.values import Piece

__all__ = ["Parquet"]


@dataclass(frozen=True, kw_only=True)
class Parquet:
    """`path`: a file, a glob or a folder, or a key, a glob or a prefix of `s3://…`, `gs://…`.

    Names that begin with `_` or `.` are not data. Folders such as `year=2013` are columns, whole numbers or text; a
    column that a file holds itself is taken from the file. A flipped byte is found where the writer wrote checksums
    of pages, as Spark and Arrow do when they are asked to; else only where the page can no longer be decoded.
    """

    path: str

    def schema(self) -> pa.Schema:
        """Return the schema that all files share, and the columns that their folders name."""
        files = self._found()
        own = same_schema(files.each(_schema))
        return pa.schema([*own, *(field for field in files.folders if field.name not in own.names)])

    def pieces(self) -> Sequence[Piece]:
        """Return the pieces in order of file names: row groups are joined while they hold at most 1,048,576 rows.

        A file that cannot be opened is a piece too: reading it says why.
        """
        files = self._found()
        listed = files.each(lambda name: [*_pieces(name, files.fingerprint(name))])
        return [piece for _, pieces in listed for piece in pieces]

    def read(self, piece: Piece, *, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the rows of the row groups, at most 65,536 at a time."""
        constants = self._files.constants(piece.source)
        with self._files.unchanged(piece) as file:
            parquet = open_parquet(file, where=piece.source)
            own = parquet.schema_arrow.names
            names = [*dict.fromkeys([*own, *constants])] if columns is None else [*columns]
            for table in read_row_groups(parquet, piece, columns=held(names, own, constants, where=piece.source)):
                yield completed(table, names, constants)

    @cached_property
    def _files(self) -> Files:
        return self._found()

    def _found(self) -> Files:
        return found(self.path, endings=(".parquet",))


def _schema(name: str) -> pa.Schema:
    with opened(name) as file:
        return open_parquet(file, where=name).schema_arrow


def _pieces(name: str, now: str) -> Iterator[Piece]:
    try:
        with opened(name) as file:
            metadata = open_parquet(file, where=name).metadata
    except DataError:
        yield Piece(source=name, part=0, parts=0, rows=None, fingerprint=now)
        return
    yield from row_group_pieces(metadata, source=name, fingerprint=now)
