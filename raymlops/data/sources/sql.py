"""The rows of one SQL query, through SQLAlchemy. One piece: the whole result, read in one transaction."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from raymlops.codec import digest
from raymlops.errors import DataError, MissingExtra
from raymlops.spec import expand
from raymlops.values import Piece

__all__ = ["Sql"]


@dataclass(frozen=True, kw_only=True)
class Sql:
    """`url`: an SQLAlchemy URL, `${VARIABLES}` filled in so that no password stands in the spec; `query`: a SELECT.

    Give the query an ORDER BY: the order of rows is the database's. One object runs the query once.
    """

    url: str
    query: str

    def schema(self) -> pa.Schema:
        """Return the result's columns, types inferred from its rows."""
        return self._table.schema

    def pieces(self) -> Sequence[Piece]:
        """Return one piece; its fingerprint covers the query and every value of the result."""
        return [Piece(source=self.query, part=0, rows=self._table.num_rows, fingerprint=self._content)]

    def read(self, piece: Piece, *, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the result's rows; raise DataError if they are not those of the piece."""
        table = self._table
        if piece.fingerprint != self._content:
            raise DataError(f"source sql: the rows of query {self.query!r:.200} changed while it was read; run again")
        absent = [name for name in columns or () if name not in table.column_names]
        if absent:
            raise DataError(f"query: has no column {', '.join(absent)}; it has {', '.join(table.column_names)}")
        yield table if columns is None else table.select([*columns])

    @cached_property
    def _content(self) -> str:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self._table.schema) as writer:
            writer.write_table(self._table)
        return digest([self.query, sink.getvalue().to_pybytes().hex()])

    @cached_property
    def _table(self) -> pa.Table:
        from sqlalchemy import create_engine, text
        from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

        try:
            engine = create_engine(expand(self.url))
        except (ImportError, NoSuchModuleError) as error:
            raise MissingExtra(f"source sql: {error}; install the driver, as `pip install raymlops[sql]`") from error
        except SQLAlchemyError as error:
            raise DataError(f"source sql: url: {error}") from error
        try:
            with engine.connect() as connection:
                result = connection.execute(text(self.query))
                names, rows = list(result.keys()), result.fetchall()
        except SQLAlchemyError as error:
            raise DataError(f"source sql: {str(error).splitlines()[0]} in query {self.query!r:.200}") from error
        finally:
            engine.dispose()
        try:
            return pa.table({name: pa.array([row[i] for row in rows]) for i, name in enumerate(names)})
        except pa.ArrowException as error:
            raise DataError(f"source sql: a column of the result mixes types: {error}") from error
