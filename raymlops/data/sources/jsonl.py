"""JSON lines, an object a line: one file, a glob, or every file below a folder. A piece is a file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.json as pa_json

from raymlops.data.files import fingerprint, found, unchanged
from raymlops.errors import DataError
from raymlops.values import Piece

__all__ = ["Jsonl"]

_BLOCK_BYTES = 4 << 20


@dataclass(frozen=True, kw_only=True)
class Jsonl:
    """`path`: a file, a glob or a folder of `*.jsonl`. An absent key is a missing value.

    Types are inferred from the first megabytes of every file and must agree; whole numbers widen to numbers. A key
    that first comes later in a file is not a column.
    """

    path: str

    def schema(self) -> pa.Schema:
        """Return the columns of all files, each with the narrowest type that holds what was seen."""
        return self._schema

    @cached_property
    def _schema(self) -> pa.Schema:
        seen = [self._peek(file) for file in found(self.path, ending=".jsonl")]
        try:
            return pa.unify_schemas(seen, promote_options="permissive")
        except pa.ArrowException as error:
            raise DataError(f"{self.path}: files disagree about a type: {error}") from error

    def pieces(self) -> Sequence[Piece]:
        """Return a piece for each file, in order of file names."""
        return [
            Piece(source=file, part=0, rows=None, fingerprint=fingerprint(file))
            for file in found(self.path, ending=".jsonl")
        ]

    def read(self, piece: Piece, *, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the file's rows, some megabytes of it at a time."""
        names = self._schema.names if columns is None else [*columns]
        absent = [name for name in names if name not in self._schema.names]
        if absent:
            raise DataError(
                f"{piece.source}: has no column {', '.join(absent)}; it has {', '.join(self._schema.names)}"
            )
        try:
            with unchanged(piece) as file, self._open(file, self._schema) as reader:
                for batch in reader:
                    yield pa.Table.from_batches([batch]).select(names)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{piece.source}: cannot be read as JSON lines: {error}") from error

    def _peek(self, file: str) -> pa.Schema:
        try:
            with self._open(file, None) as reader:
                return reader.schema
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{file}: cannot be read as JSON lines: {error}") from error

    def _open(self, file: str, schema: pa.Schema | None) -> pa.RecordBatchReader:
        parse = pa_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore" if schema else "infer")
        return pa_json.open_json(file, pa_json.ReadOptions(block_size=_BLOCK_BYTES), parse)
