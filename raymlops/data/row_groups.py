"""Parquet files in pieces that are runs of row groups, read a bounded number of rows at a time.

Knows nothing of where files are.
"""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from raymlops.errors import DataError
from raymlops.values import Piece

__all__ = ["open_parquet", "read_row_groups", "row_group_pieces"]

_ROWS_OF_A_PIECE = 1 << 20
_ROWS_AT_ONCE = 1 << 16


def open_parquet(file: pa.NativeFile, *, where: str) -> pq.ParquetFile:
    """Open a Parquet file; raise DataError, with `where` as its name, when it is not one."""
    try:
        # Extension types stay as they are stored: a file's metadata must not choose code that runs. What is far away
        # is asked for once a piece, not once a column and row group: its bytes then lie in memory as they are stored.
        far = isinstance(file, pa.PythonFile)
        return pq.ParquetFile(file, arrow_extensions_enabled=False, page_checksum_verification=True, pre_buffer=far)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{where}: is not a readable Parquet file: {error}") from error


def row_group_pieces(metadata: pq.FileMetaData, *, source: str, fingerprint: str) -> Iterator[Piece]:
    """Yield the pieces of a file: row groups are joined while they hold at most 1,048,576 rows; none without rows."""
    first, rows = 0, 0
    for group in range(metadata.num_row_groups):
        more = metadata.row_group(group).num_rows
        if rows and rows + more > _ROWS_OF_A_PIECE:
            yield Piece(source=source, part=first, parts=group - first, rows=rows, fingerprint=fingerprint)
            first, rows = group, 0
        rows += more
    if rows:
        parts = metadata.num_row_groups - first
        yield Piece(source=source, part=first, parts=parts, rows=rows, fingerprint=fingerprint)


def read_row_groups(parquet: pq.ParquetFile, piece: Piece, *, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield the columns of the piece's row groups, at most 65,536 rows at a time; raise DataError when damaged."""
    groups = range(piece.part, piece.part + piece.parts)
    try:
        for batch in parquet.iter_batches(_ROWS_AT_ONCE, row_groups=groups, columns=[*columns]):
            yield pa.Table.from_batches([batch])
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{piece.source}: row group {piece.part} cannot be read: {error}") from error
