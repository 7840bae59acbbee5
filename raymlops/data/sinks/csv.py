"""CSV files with a header line, a folder a run: hidden while it is written, seen whole by one rename."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv

from raymlops.data.staging import commit_folder, write_parts
from raymlops.errors import SpecError
from raymlops.spec import expand
from raymlops.values import JsonValue, Part

__all__ = ["Csv"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Csv:
    """`path`: folder of the runs; `rows_per_file`: most rows of one file; `delimiter`: one character.

    A missing value is an empty field; an empty text is quoted, but most readers take it for missing as well.
    """

    path: str
    rows_per_file: int = 5_000_000
    delimiter: str = ","

    def __post_init__(self) -> None:
        problems = []
        if self.rows_per_file < 1:
            problems.append(f"rows_per_file: {self.rows_per_file} given, at least 1 is allowed")
        if len(self.delimiter) != 1 or self.delimiter in '"\r\n':
            problems.append(
                f"delimiter: {self.delimiter!r} given, one character that is no quote or line end is allowed"
            )
        if problems:
            raise SpecError(*problems)

    def write(self, tables: Iterable[pa.Table], *, run: str, name: str) -> Sequence[Part]:
        """Write files of at most `rows_per_file` rows into the hidden folder of the run."""
        options = pa_csv.WriteOptions(delimiter=self.delimiter)
        return write_parts(
            tables, folder=Path(expand(self.path)), run=run, name=name, ending=".csv", limit=self.rows_per_file,
            writer=lambda file, schema: pa_csv.CSVWriter(file, schema, write_options=options),
        )  # fmt: skip

    def commit(self, *, run: str, parts: Sequence[Part], manifest: bytes) -> bool:
        """Give the folder of the run its name; a folder that has it already stays as it is."""
        return commit_folder(Path(expand(self.path)), run=run, parts=parts, manifest=manifest)

    def source(self, run: str) -> JsonValue:
        """Return the CSV source of the run's folder."""
        return {"csv": {"path": str(Path(expand(self.path)) / run), "delimiter": self.delimiter}}
