"""JSON lines, an object a line: one file, a glob, or every file below a folder or prefix. A piece is a file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.json as pa_json

from raymlops.data.columns import completed, held, why
from raymlops.data.files import Files, found, opened
from raymlops.errors import DataError
from raymlops.values import Piece

__all__ = ["Jsonl"]

_BLOCK_BYTES = 4 << 20


@dataclass(frozen=True, kw_only=True)
class Jsonl:
    """`path`: a file, a glob or a folder of `*.jsonl`, `*.jsonl.gz`, `*.jsonl.zst`, or the like in `s3://…`, `gs://…`.

    An absent key is a missing value, and a file without an object has no rows. Types are inferred from the first 4 MiB
    of every file and must agree; whole numbers widen to numbers, and a later value of another type is refused. A key
    that first comes later in a file is not a column. Folders such as `year=2013` are columns, whole numbers or text; a
    key of the rows goes before.
    """

    path: str

    def schema(self) -> pa.Schema:
        """Return the columns of all files, each with the narrowest type that holds what was seen, and of folders."""
        own, folders = self._schema, self._files.folders
        return pa.schema([*own, *(field for field in folders if field.name not in own.names)])

    @cached_property
    def _schema(self) -> pa.Schema:
        try:
            return pa.unify_schemas([seen for _, seen in self._files.each(_peek)], promote_options="permissive")
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
        held(names, self._schema.names, constants, where=piece.source)
        try:
            with self._files.unchanged(piece) as file, _open(file, self._schema) as reader:
                for batch in reader:
                    yield completed(pa.Table.from_batches([batch]), names, constants)
        except (OSError, pa.ArrowException) as error:
            if _blank(piece.source):
                return
            raise DataError(f"{piece.source}: cannot be read as JSON lines: {why(error)}") from error

    @cached_property
    def _files(self) -> Files:
        return self._found()

    def _found(self) -> Files:
        return found(self.path, endings=(".jsonl", ".jsonl.gz", ".jsonl.zst"))


def _peek(name: str) -> pa.Schema:
    try:
        with opened(name) as file, _open(file, None) as reader:
            return reader.schema
    except (OSError, pa.ArrowException) as error:
        if _blank(name):
            return pa.schema([])
        raise DataError(f"{name}: cannot be read as JSON lines: {why(error)}") from error


def _blank(name: str) -> bool:
    """Return whether a file holds no object, which is no fault, though pyarrow says it is."""
    with opened(name) as file:
        return not any(block.strip() for block in iter(lambda: file.read(_BLOCK_BYTES), b""))


def _open(file: pa.NativeFile, schema: pa.Schema | None) -> pa.RecordBatchReader:
    parse = pa_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore" if schema else "infer")
    return pa_json.open_json(file, pa_json.ReadOptions(block_size=_BLOCK_BYTES), parse)
