"""CSV files with a header line, a folder a run: hidden while it is written, seen whole by one rename."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv

from raymlops.data.staging import commit_folder, write_parts
from raymlops.errors import SpecError, StageFailed
from raymlops.spec import expand
from raymlops.values import JsonValue, Part

__all__ = ["Csv"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Csv:
    """`path`: folder of the runs; `rows_per_file`: most rows of one file; `delimiter`: one character.

    A null is an empty field and an empty text is `""`. PostgreSQL's COPY tells them apart, and so does pyarrow with
    `quoted_strings_can_be_null=False`; most other readers take both for missing. NaN is `nan`, a number.
    """

    path: str
    rows_per_file: int = 5_000_000
    delimiter: str = ","

    def __post_init__(self) -> None:
        problems = []
        if self.rows_per_file < 1:
            problems.append(f"rows_per_file: {self.rows_per_file} given, at least 1 is allowed")
        if len(self.delimiter) != 1 or not self.delimiter.isascii() or self.delimiter in '"\r\n':
            problems.append(
                f"delimiter: {self.delimiter!r} given, one ASCII character that is no quote or line end is allowed"
            )
        if "://" in self.path:
            problems.append(f"path: {self.path!r} given, a folder is allowed; the parquet sink writes to object stores")
        if problems:
            raise SpecError(*problems)

    def write(self, tables: Iterable[pa.Table], *, run: str, name: str) -> Sequence[Part]:
        """Write files of at most `rows_per_file` rows into the hidden folder of the run.

        Raise StageFailed that names the columns which CSV cannot hold, such as lists.
        """
        options = pa_csv.WriteOptions(delimiter=self.delimiter)
        return write_parts(
            _as_text(tables), folder=Path(expand(self.path)), run=run, name=name, ending=".csv",
            limit=self.rows_per_file, writer=lambda file, schema: pa_csv.CSVWriter(file, schema, write_options=options),
        )  # fmt: skip

    def commit(self, *, run: str, parts: Sequence[Part], manifest: bytes) -> bool:
        """Show the folder of the run; a folder that is shown already stays as it is."""
        return commit_folder(Path(expand(self.path)), run=run, parts=parts, manifest=manifest)

    def source(self, run: str) -> JsonValue:
        """Return the CSV source of the run's folder; only an empty field is a null there, the text `NA` is not."""
        return {"csv": {"path": str(Path(expand(self.path)) / run), "delimiter": self.delimiter, "nulls": [""]}}


def _as_text(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    for table in tables:
        bad = [f"{field.name!r} ({field.type})" for field in table.schema if not _has_text(field.type)]
        if bad:
            raise StageFailed(f"sink csv: no field of CSV holds column {', '.join(bad)}; leave it out, or use parquet")
        yield table.cast(pa.schema([(field.name, _plain(field.type)) for field in table.schema]))


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return the type that the writer takes: a dictionary's values, a text instead of a view of one."""
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    return pa.string() if pa.types.is_string_view(kind) else kind


def _has_text(kind: pa.DataType) -> bool:
    try:
        pa.nulls(0, kind).cast(pa.string())
    except pa.ArrowNotImplementedError:
        return False
    return not pa.types.is_nested(kind)
