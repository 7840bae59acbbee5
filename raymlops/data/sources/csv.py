"""CSV files with a header line: one file, a glob, or every file below a folder or prefix. A piece is a file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.csv as pa_csv

from raymlops.data.columns import completed, held, why
from raymlops.data.files import Files, found, opened
from raymlops.errors import DataError
from raymlops.values import Piece

__all__ = ["Csv"]

_BLOCK_BYTES = 4 << 20


@dataclass(frozen=True, kw_only=True)
class Csv:
    """`path`: a file, a glob or a folder of `*.csv`, `*.csv.gz`, `*.csv.zst`, or the like in `s3://…`, `gs://…`.

    `nulls`: the texts that stand for a missing value. Types are inferred from the first 4 MiB of every file and must
    agree; whole numbers widen to numbers, and a later value of another type is refused. Folders such as `year=2013`
    are columns, whole numbers or text; a column that a file holds itself is taken from the file.
    """

    path: str
    delimiter: str = ","
    nulls: tuple[str, ...] = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")

    def schema(self) -> pa.Schema:
        """Return the columns of all files, each with the narrowest type that holds what was seen, and of folders."""
        own, folders = self._schema, self._files.folders
        return pa.schema([*own, *(field for field in folders if field.name not in own.names)])

    @cached_property
    def _schema(self) -> pa.Schema:
        seen = self._files.each(self._peek)
        for file, schema in seen[1:]:
            if schema.names != seen[0][1].names:
                raise DataError(f"{file}: columns {schema.names} given, {seen[0][0]} has {seen[0][1].names}")
        try:
            return pa.unify_schemas([schema for _, schema in seen], promote_options="permissive")
        except pa.ArrowException as error:
            raise DataError(f"{self.path}: files disagree about a type: {error}") from error

    def pieces(self) -> Sequence[Piece]:
        """Return a piece for each file, in order of file names."""
        files = self._found()
        return [Piece(source=name, part=0, rows=None, fingerprint=now) for name, now in files.each(files.fingerprint)]

    def read(self, piece: Piece, *, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the file's rows, some megabytes of it at a time."""
        names = self.schema().names if columns is None else [*columns]
        constants = self._files.constants(piece.source)
        wanted = held(names, self._schema.names, constants, where=piece.source)
        try:
            with (
                self._files.unchanged(piece) as file,
                self._open(file, column_types=self._schema, include_columns=wanted) as reader,
            ):
                for batch in reader:
                    yield completed(pa.Table.from_batches([batch]), names, constants)
        except (OSError, pa.ArrowException, KeyError) as error:
            raise DataError(f"{piece.source}: cannot be read as CSV: {why(error)}") from error

    def _peek(self, name: str) -> pa.Schema:
        try:
            with opened(name) as file, self._open(file) as reader:
                return reader.schema
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{name}: cannot be read as CSV: {why(error)}") from error

    def _open(self, file: pa.NativeFile, **convert: object) -> pa_csv.CSVStreamingReader:
        return pa_csv.open_csv(
            file,
            read_options=pa_csv.ReadOptions(block_size=_BLOCK_BYTES),
            parse_options=pa_csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(null_values=[*self.nulls], strings_can_be_null=True, **convert),
        )

    @cached_property
    def _files(self) -> Files:
        return self._found()

    def _found(self) -> Files:
        return found(self.path, endings=(".csv", ".csv.gz", ".csv.zst"))
