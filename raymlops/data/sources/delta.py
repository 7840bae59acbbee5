"""A Delta table at one version, in a folder or an object store. A piece is a run of row groups of a data file."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from raymlops.data.columns import completed, held
from raymlops.data.delta_table import DataFile, Snapshot, open_table, snapshot, snapshot_of_run
from raymlops.data.files import located, opened
from raymlops.data.row_groups import open_parquet, read_row_groups, row_group_pieces
from raymlops.errors import DataError, SpecError
from raymlops.values import Piece

__all__ = ["Delta"]


@dataclass(frozen=True, kw_only=True)
class Delta:
    """`path`: the table's folder, `s3://…` or `gs://…`; `version`: one of its log, by default the newest.

    `run`: only the rows that this run of the delta sink committed. The newest version is looked up once, when the
    source is first used; each piece names the version, so every worker reads that one, whatever is committed since. A
    column that an older file lacks is null there. Tables whose features would be read wrongly are refused.
    """

    path: str
    version: int | None = None
    run: str | None = None

    def __post_init__(self) -> None:
        if self.version is not None and self.version < 0:
            raise SpecError(f"version: {self.version} given, at least 0 is allowed")

    def schema(self) -> pa.Schema:
        """Return the columns of the table at this version."""
        return self._pinned.schema

    def pieces(self) -> Sequence[Piece]:
        """Return the pieces in order of file names: row groups are joined while they hold at most 1,048,576 rows.

        A file that is gone or damaged is a piece too: reading it says why.
        """
        pinned = self._pinned
        with ThreadPoolExecutor(16) as pool:
            listed = pool.map(lambda file: self._pieces(file, pinned.version), pinned.files.values())
            return [piece for pieces in listed for piece in pieces]

    def read(self, piece: Piece, *, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the rows of the row groups, at most 65,536 at a time; DataError where VACUUM removed the file."""
        name, _, version = piece.source.removeprefix(f"{self._root}/").rpartition("@")
        at = self._at(int(version)) if version.isdecimal() else self._pinned
        file = at.files.get(name)
        if file is None or file.fingerprint != piece.fingerprint:
            raise DataError(f"{piece.source}: the table is not the one that was listed: it changed while it was read")
        names = at.schema.names if columns is None else [*columns]
        try:
            yield from self._rows(piece, file, at, names)
        except DataError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise DataError(
                    f"{piece.source}: the file is gone: VACUUM removes what only old versions name; read a newer one"
                ) from error
            raise

    def _rows(self, piece: Piece, file: DataFile, at: Snapshot, names: Sequence[str]) -> Iterator[pa.Table]:
        with opened(f"{self._root}/{file.name}") as stream:
            if stream.size() != file.size_bytes:
                raise DataError(f"{piece.source}: has {stream.size()} bytes, the log says {file.size_bytes}")
            parquet = open_parquet(stream, where=piece.source)
            own = [n for n in parquet.schema_arrow.names if n in at.schema.names and n not in file.constants]
            filled = {f.name: pa.scalar(None, f.type) for f in at.schema if f.name not in own} | dict(file.constants)
            for table in read_row_groups(parquet, piece, columns=held(names, own, filled, where=piece.source)):
                yield completed(_typed(table, at.schema, where=piece.source), names, filled)

    def _pieces(self, file: DataFile, version: int) -> list[Piece]:
        source = f"{self._root}/{file.name}@{version}"
        try:
            with opened(f"{self._root}/{file.name}") as stream:
                metadata = open_parquet(stream, where=source).metadata
        except DataError:
            return [Piece(source=source, part=0, parts=0, rows=None, fingerprint=file.fingerprint)]
        return [*row_group_pieces(metadata, source=source, fingerprint=file.fingerprint)]

    @cached_property
    def _root(self) -> str:
        return located(self.path).rstrip("/")

    @cached_property
    def _pinned(self) -> Snapshot:
        table = open_table(self._root, version=self.version)
        if table is None:
            raise DataError(f"{self.path}: is no Delta table (looked for {self._root}/_delta_log)")
        return snapshot(table) if self.run is None else snapshot_of_run(table, self.run)

    def _at(self, version: int) -> Snapshot:
        if version not in self._kept:
            table = open_table(self._root, version=version)
            assert table is not None
            self._kept[version] = snapshot(table)
        return self._kept[version]

    @cached_property
    def _kept(self) -> dict[int, Snapshot]:
        return {}


def _typed(table: pa.Table, schema: pa.Schema, *, where: str) -> pa.Table:
    """Return the columns in the table's types: only the unit of a time and the form of a text may differ in a file."""
    wanted = pa.schema([schema.field(name) for name in table.column_names])
    for field in table.schema:
        known = wanted.field(field.name).type
        if field.type != known and _family(field.type) != _family(known):
            raise DataError(f"{where}: column {field.name!r} is {field.type}, the table says {known}")
    try:
        return table.cast(wanted)
    except (pa.ArrowException, ValueError) as error:
        raise DataError(f"{where}: does not fit the table's columns: {error}") from error


def _family(kind: pa.DataType) -> object:
    if pa.types.is_timestamp(kind):
        return "time"
    if pa.types.is_nested(kind):
        return "nested"
    return {pa.large_string(): pa.string(), pa.large_binary(): pa.binary()}.get(kind, kind)
