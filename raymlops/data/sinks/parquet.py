"""Parquet files, a folder a run: hidden while it is written, seen whole by one rename."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from raymlops.data.staging import commit_folder, write_parts
from raymlops.errors import SpecError
from raymlops.spec import expand
from raymlops.values import JsonValue, Part

__all__ = ["Parquet"]

_COMPRESSIONS = ("none", "snappy", "gzip", "brotli", "zstd", "lz4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parquet:
    """`path`: folder of the runs; `rows_per_file`: most rows of one file; `compression`: none, snappy, gzip, brotli,
    zstd or lz4."""

    path: str
    rows_per_file: int = 5_000_000
    compression: str = "snappy"

    def __post_init__(self) -> None:
        problems = []
        if self.rows_per_file < 1:
            problems.append(f"rows_per_file: {self.rows_per_file} given, at least 1 is allowed")
        if self.compression not in _COMPRESSIONS:
            problems.append(f"compression: {self.compression!r} given, allowed are {', '.join(_COMPRESSIONS)}")
        if problems:
            raise SpecError(*problems)

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
