"""Parquet files, a folder a run: hidden while it is written, seen whole by one rename; or objects and a manifest."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raymlops.data.objects import commit_objects, write_objects
from raymlops.data.staging import MANIFEST, commit_folder, write_parts
from raymlops.data.stores import is_url
from raymlops.errors import SpecError
from raymlops.spec import expand
from raymlops.values import JsonValue, Part

__all__ = ["Parquet"]

_COMPRESSIONS = ("none", "snappy", "gzip", "brotli", "zstd", "lz4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parquet:
    """`path`: folder of the runs, or `s3://…`, `gs://…`; `rows_per_file`: most rows of one file; `compression`: none,
    snappy, gzip, brotli, zstd or lz4.

    Below a folder, `RUN/` appears whole. In a store, a run is there once `RUN/_manifest.json` is: its parts lie beside
    it. Address and keys of a store come from the environment, as `AWS_ENDPOINT_URL`, `GOOGLE_APPLICATION_CREDENTIALS`.
    """

    path: str
    rows_per_file: int = 5_000_000
    compression: str = "snappy"

    def __post_init__(self) -> None:
        problems = []
        if self.rows_per_file < 1:
            problems.append(f"rows_per_file: {self.rows_per_file} given, at least 1 is allowed")
        if self.compression not in _COMPRESSIONS:
            problems.append(f"compression: {self.compression!r} given, allowed are {', '.join(_COMPRESSIONS)}")
        if "://" in self.path and not self._url:
            problems.append(f"path: {self.path!r} given, a folder, s3://BUCKET/PATH or gs://BUCKET/PATH is allowed")
        if problems:
            raise SpecError(*problems)

    def write(self, tables: Iterable[pa.Table], *, run: str, name: str) -> Sequence[Part]:
        """Write files of at most `rows_per_file` rows into the run's hidden folder, or objects below its prefix."""
        if url := self._url:
            return write_objects(
                tables, url=url, run=run, name=name, ending=".parquet", limit=self.rows_per_file, writer=self._writer
            )
        return write_parts(
            tables, folder=Path(expand(self.path)), run=run, name=name, ending=".parquet", limit=self.rows_per_file,
            writer=self._writer,
        )  # fmt: skip

    def commit(self, *, run: str, parts: Sequence[Part], manifest: bytes) -> bool:
        """Show the folder of the run, or put its manifest; what is committed already stays as it is."""
        if url := self._url:
            return commit_objects(url=url, run=run, parts=parts, manifest=manifest)
        return commit_folder(Path(expand(self.path)), run=run, parts=parts, manifest=manifest)

    def source(self, run: str) -> JsonValue:
        """Return the Parquet source of the run's folder, or of what its manifest shows."""
        if url := self._url:
            return {"parquet": f"{url.rstrip('/')}/{run}/{MANIFEST}"}
        return {"parquet": str(Path(expand(self.path)) / run)}

    @property
    def _url(self) -> str:
        where = expand(self.path)
        return where if is_url(where) else ""

    def _writer(self, file: Any, schema: pa.Schema) -> pq.ParquetWriter:
        return pq.ParquetWriter(file, schema, compression=self.compression, write_page_checksum=True)
