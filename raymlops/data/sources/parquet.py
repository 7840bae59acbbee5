"""Parquet files: one file, a glob, or every file below a folder. A piece is a run of row groups of one file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from raymlops.data.files import fingerprint, found, same_schema, unchanged
from raymlops.errors import DataError
from raymlops.values import Piece

__all__ = ["Parquet"]

_ROWS_OF_A_PIECE = 1 << 20
_ROWS_AT_ONCE = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Parquet:
    """`path`: a file, a glob or a folder; names that begin with `_` or `.` are not data."""

    path: str

    def schema(self) -> pa.Schema:
        """Return the schema that all files share."""
        return same_schema([(file, self._open(file).schema_arrow) for file in found(self.path, ending=".parquet")])

    def pieces(self) -> Sequence[Piece]:
        """Return the pieces in order of file names: row groups are joined while they hold at most 1,048,576 rows.

        A file that cannot be opened is a piece too: reading it says why.
        """
        return [piece for file in found(self.path, ending=".parquet") for piece in self._pieces(file)]

    def read(self, piece: Piece, *, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the rows of the row groups, at most 65,536 at a time."""
        groups = range(piece.part, piece.part + piece.parts)
        try:
            with unchanged(piece) as file:
                opened = self._open(file)
                names = opened.schema_arrow.names if columns is None else [*columns]
                for batch in opened.iter_batches(_ROWS_AT_ONCE, row_groups=groups, columns=names):
                    yield pa.Table.from_batches([batch]).select(names)
        except (OSError, pa.ArrowException, KeyError) as error:
            raise DataError(f"{piece.source}: row group {piece.part} cannot be read: {error}") from error

    def _pieces(self, file: str) -> Iterator[Piece]:
        now = fingerprint(file)
        try:
            metadata = self._open(file).metadata
        except DataError:
            yield Piece(source=file, part=0, parts=0, rows=None, fingerprint=now)
            return
        first, rows = 0, 0
        for group in range(metadata.num_row_groups):
            more = metadata.row_group(group).num_rows
            if rows and rows + more > _ROWS_OF_A_PIECE:
                yield Piece(source=file, part=first, parts=group - first, rows=rows, fingerprint=now)
                first, rows = group, 0
            rows += more
        if rows:
            yield Piece(source=file, part=first, parts=metadata.num_row_groups - first, rows=rows, fingerprint=now)

    def _open(self, file: str) -> pq.ParquetFile:
        try:
            # Extension types stay as they are stored: a file's metadata must not choose code that runs.
            return pq.ParquetFile(file, arrow_extensions_enabled=False, page_checksum_verification=True)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{file}: is not a readable Parquet file: {error}") from error
