"""Parquet files: one file, a glob, or every file below a folder. A piece is a row group."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from raymlops.data.files import fingerprint, found, same_schema, unchanged
from raymlops.errors import DataError
from raymlops.values import Piece

__all__ = ["Parquet"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parquet:
    """`path`: a file, a glob or a folder; names that begin with `_` or `.` are not data."""

    path: str

    def schema(self) -> pa.Schema:
        """Return the schema that all files share."""
        return same_schema([(file, self._open(file).schema_arrow) for file in found(self.path, ending=".parquet")])

    def pieces(self) -> Sequence[Piece]:
        """Return a piece for each row group, in order of file names."""
        return [
            Piece(source=file, part=group, rows=metadata.row_group(group).num_rows, fingerprint=fingerprint(file))
            for file in found(self.path, ending=".parquet")
            for metadata in [self._open(file).metadata]
            for group in range(metadata.num_row_groups)
        ]

    def read(self, piece: Piece, *, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the row group's rows; raise DataError if the file changed since `pieces`."""
        try:
            with unchanged(piece) as file:
                return self._open(file).read_row_group(piece.part, columns=None if columns is None else [*columns])
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{piece.source}: row group {piece.part} cannot be read: {error}") from error

    def _open(self, file: str) -> pq.ParquetFile:
        try:
            # Extension types stay as they are stored: a file's metadata must not choose code that runs.
            return pq.ParquetFile(file, arrow_extensions_enabled=False)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{file}: is not a readable Parquet file: {error}") from error
