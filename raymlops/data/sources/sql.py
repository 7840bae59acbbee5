"""The rows of one SQL query: as one piece, or in ranges of a column. Each piece is what it was when listed, or refused.

PostgreSQL makes checksums itself and keeps its types (`sql_postgres.py`); every other database of SQLAlchemy is read
as SQLite is (`sql_rows.py`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from raymlops.data import sql_postgres, sql_rows
from raymlops.data.sql_database import open_database
from raymlops.data.sql_shards import Content, make_piece, shard_of
from raymlops.errors import DataError, SpecError
from raymlops.plugins import suggestion
from raymlops.values import Piece

if TYPE_CHECKING:
    from sqlalchemy import Engine

__all__ = ["Sql"]


@dataclass(frozen=True, kw_only=True)
class Sql:
    """`url`: an SQLAlchemy URL, `${VARIABLES}` filled in so that no password stands in the spec; `query`: a SELECT;
    `shard_by`: a column of its result, best one with an index; `rows_per_shard`: about how many rows a piece has.

    All pieces are of one state of the database: rows that were changed after they were listed are refused when they
    are read, so name rows in the query that stand still, such as those of yesterday. Rows come in the order of
    `shard_by`; without it in the order of the query, which is the database's own unless the query has an ORDER BY.
    """

    url: str
    query: str
    shard_by: str | None = None
    rows_per_shard: int = 1 << 20

    def __post_init__(self) -> None:
        if self.rows_per_shard < 1:
            raise SpecError(f"rows_per_shard: {self.rows_per_shard} given, at least 1 is allowed")

    def schema(self) -> pa.Schema:
        """Return the result's columns with the types that the database declares, never those of some rows only."""
        return self._schema

    def pieces(self) -> Sequence[Piece]:
        """Return a piece for each range that has rows, those without a key last; a fingerprint covers every value."""
        names = self._schema.names
        if self.shard_by is not None:
            self._check([self.shard_by], "shard_by")
        if self._in_postgres:
            listed = sql_postgres.list_shards(self._engine, self._query, by=self.shard_by, size=self.rows_per_shard)
        else:
            listed = sql_rows.list_shards(
                self._engine, self._query, by=self.shard_by, size=self.rows_per_shard, names=names
            )
        return [make_piece(i, self.query, *one, types=str(self._schema)) for i, one in enumerate(listed)]

    def read(self, piece: Piece, *, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the rows of a range; raise DataError at its end if they are not those that were listed."""
        names = self._schema.names if columns is None else [*columns]
        self._check(names, "query")
        shard, read = shard_of(piece, by=self.shard_by), Content()
        reader = sql_postgres.read_rows if self._in_postgres else sql_rows.read_rows
        for table, content in reader(self._engine, self._query, self._schema, shard, columns=names):
            read += content
            yield table
        now = make_piece(piece.part, self.query, shard, read, str(self._schema))
        if now.fingerprint != piece.fingerprint:
            raise DataError(f"source sql: the rows of {piece.source!r:.200} changed while they were read; run again")

    def _check(self, names: Sequence[str], where: str) -> None:
        known = self._schema.names
        absent = [name for name in names if name not in known]
        if absent:
            near = suggestion(absent[0], tuple(known))
            raise DataError(f"{where}: the result has no column {', '.join(absent)}{near}; it has {', '.join(known)}")

    @cached_property
    def _schema(self) -> pa.Schema:
        made = (sql_postgres if self._in_postgres else sql_rows).read_schema(self._engine, self._query)
        twice = sorted({name for name in made.names if made.names.count(name) > 1})
        if twice:
            raise DataError(f"query: column {', '.join(twice)} stands twice in the result; rename one with AS")
        return made

    @cached_property
    def _engine(self) -> "Engine":
        made = open_database(self.url, where="source sql")
        file = made.url.database
        # SQLite would make the file of a mistyped path.
        if made.dialect.name == "sqlite" and file and "uri" not in made.url.query and not Path(file).is_file():
            raise DataError(f"source sql: url: {file!r} is not a file")
        return made

    @property
    def _in_postgres(self) -> bool:
        return (self._engine.dialect.name, self._engine.dialect.driver) == ("postgresql", "psycopg")

    @property
    def _query(self) -> str:
        return self.query.strip().rstrip(";")
