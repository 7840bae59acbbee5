"""CSV files with a header line: one file, a glob, or every file below a folder. A piece is a file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.csv as pa_csv

from raymlops.data.files import fingerprint, found, unchanged
from raymlops.errors import DataError
from raymlops.values import Piece

__all__ = ["Csv"]

_BLOCK_BYTES = 4 << 20


@dataclass(frozen=True, kw_only=True)
class Csv:
    """`path`: a file, a glob or a folder; `nulls`: the texts that stand for a missing value.

    Types are inferred from the first megabytes of every file and must agree; whole numbers widen to numbers.
    """

    path: str
    delimiter: str = ","
    nulls: tuple[str, ...] = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")

    def schema(self) -> pa.Schema:
        """Return the columns of all files, each with the narrowest type that holds what was seen."""
        return self._schema

    @cached_property
    def _schema(self) -> pa.Schema:
        files = found(self.path, ending=".csv")
        seen = [(file, self._peek(file)) for file in files]
        for file, schema in seen[1:]:
            if schema.names != seen[0][1].names:
                raise DataError(f"{file}: columns {schema.names} given, {seen[0][0]} has {seen[0][1].names}")
        try:
            return pa.unify_schemas([schema for _, schema in seen], promote_options="permissive")
        except pa.ArrowException as error:
            raise DataError(f"{self.path}: files disagree about a type: {error}") from error

    def pieces(self) -> Sequence[Piece]:
        """Return a piece for each file, in order of file names."""
        return [
            Piece(source=file, part=0, rows=None, fingerprint=fingerprint(file))
            for file in found(self.path, ending=".csv")
        ]

    def read(self, piece: Piece, *, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the file's rows, some megabytes of it at a time."""
        convert = self._convert(column_types=self._schema, include_columns=None if columns is None else [*columns])
        try:
            with unchanged(piece) as file:
                parse = pa_csv.ParseOptions(delimiter=self.delimiter)
                blocks = pa_csv.ReadOptions(block_size=_BLOCK_BYTES)
                with pa_csv.open_csv(file, read_options=blocks, parse_options=parse, convert_options=convert) as reader:
                    for batch in reader:
                        yield pa.Table.from_batches([batch])
        except (OSError, pa.ArrowException, KeyError) as error:
            raise DataError(f"{piece.source}: cannot be read as CSV: {error}") from error

    def _peek(self, file: str) -> pa.Schema:
        try:
            with pa_csv.open_csv(
                file,
                read_options=pa_csv.ReadOptions(block_size=_BLOCK_BYTES),
                parse_options=pa_csv.ParseOptions(delimiter=self.delimiter),
                convert_options=self._convert(),
            ) as reader:
                return reader.schema
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{file}: cannot be read as CSV: {error}") from error

    def _convert(self, **more: object) -> pa_csv.ConvertOptions:
        return pa_csv.ConvertOptions(null_values=[*self.nulls], strings_can_be_null=True, **more)
