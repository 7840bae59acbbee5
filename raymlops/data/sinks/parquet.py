"""Parquet files, a folder a run: hidden while it is written, seen whole by one rename."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from raymlops.data.staging import commit_folder, write_parts
from raymlops.spec import expand
from raymlops.values import JsonValue, Part

__all__ = ["Parquet"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parquet:
    """`path`: folder of the runs; `rows_per_file`: most rows of one file; `compression`: zstd, snappy, lz4 or none."""

    path: str
    rows_per_file: int = 5_000_000
    compression: str = "snappy"

    def write(self, tables: Iterable[pa.Table], *, run: str, name: str) -> Sequence[Part]:
        """Write files of at most `rows_per_file` rows into the hidden folder of the run."""
        return write_parts(
            tables, folder=Path(expand(self.path)), run=run, name=name, ending=".parquet", limit=self.rows_per_file,
            writer=lambda file, schema: pq.ParquetWriter(file, schema, compression=self.compression),
        )  # fmt: skip

    def commit(self, *, run: str, parts: Sequence[Part], manifest: bytes) -> bool:
        """Give the folder of the run its name; a folder that has it already stays as it is."""
        return commit_folder(Path(expand(self.path)), run=run, parts=parts, manifest=manifest)

    def source(self, run: str) -> JsonValue:
        """Return the Parquet source of the run's folder."""
        return {"parquet": str(Path(expand(self.path)) / run)}
