"""A table of PostgreSQL or SQLite: parts are staged beside it, and one transaction moves a run into it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.compute as pc

from raymlops.data.sql_columns import plain
from raymlops.data.sql_commit import commit_parts, is_committed
from raymlops.data.sql_database import literal_password, open_database
from raymlops.data.sql_staging import ROW, RUN, Target, quoted, stage
from raymlops.data.staging import cut, write_file
from raymlops.errors import SpecError, StageFailed
from raymlops.values import JsonValue, Part

__all__ = ["Sql"]

_ROWS_OF_A_PART = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Sql:
    """`url`: an SQLAlchemy URL, its password a `${VARIABLE}`; `table`: `NAME` or `SCHEMA.NAME`, made if it is absent;
    `key`: columns by which a run replaces the rows of earlier ones; without it, rows are added.

    Two columns tell where a row comes from: `run_id` names its run, `run_row` is its place in it. An existing table
    needs them and every column of the rows. `raymlops_runs`, in the same schema, keeps the manifest of each run; a run
    whose rows are all removed from a table without a key can be committed again.
    """

    url: str
    table: str
    key: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problems = []
        if literal_password(self.url):
            problems.append("url: holds a password, which manifests would show; write ${VARIABLE} in its place")
        if not all(self.table.split(".", 1)):
            problems.append(f"table: {self.table!r} given, NAME or SCHEMA.NAME is allowed")
        if len(set(self.key)) < len(self.key):
            problems.append(f"key: {', '.join(self.key)} given, each column is allowed once")
        if problems:
            raise SpecError(*problems)

    def write(self, tables: Iterable[pa.Table], *, run: str, name: str) -> Sequence[Part]:
        """Stage parts of at most 1,048,576 rows in tables of the run, beside the table, which no reader of it sees.

        Rows lie in a local file until the last is known, so that no transaction waits for the one who makes them. A
        run that is committed gets no more parts. Raise StageFailed that names each column which the table lacks or
        cannot hold.
        """
        target = self._target
        late = is_committed(target, run)
        try:
            with TemporaryDirectory(prefix="raymlops-") as folder:
                chunks = enumerate(cut(_of_run(tables, run), _ROWS_OF_A_PART))
                made = [
                    write_file(chunk, writer=pa.ipc.new_file, path=Path(folder) / f"{name}-{index:03}")
                    for index, chunk in chunks
                ]
                for part in [] if late else made:
                    stage(target, Path(folder) / part.name, part, run=run)
        except (OSError, pa.ArrowException) as error:
            raise StageFailed(f"{target}: {name} cannot be written: {error}") from error
        return made

    def commit(self, *, run: str, parts: Sequence[Part], manifest: bytes) -> bool:
        """Move the parts into the table and record the run, in one transaction; then drop what was staged.

        Raise StageFailed, with nothing moved, also when two rows of the run have one key.
        """
        return commit_parts(self._target, run=run, parts=parts, manifest=manifest)

    def source(self, run: str) -> JsonValue:
        """Return the SQL source of the run's rows in their order; with a key, of those that no later run replaced."""
        value = run.replace("'", "''")
        table = self._target.named(self._target.table)
        query = f"SELECT * FROM {table} WHERE {quoted(RUN)} = '{value}'"
        return {"sql": {"url": self.url, "query": query, "shard_by": ROW}}

    @property
    def _target(self) -> Target:
        engine = open_database(self.url, where="sink sql")
        if (engine.dialect.name, engine.dialect.driver) not in (("postgresql", "psycopg"), ("sqlite", "pysqlite")):
            raise SpecError(f"sink sql: url: {engine.url.drivername} given, postgresql and sqlite are written to")
        schema, _, table = self.table.rpartition(".")
        return Target(engine=engine, schema=schema or None, table=table, key=self.key)


def _of_run(tables: Iterable[pa.Table], run: str) -> Iterator[pa.Table]:
    """Yield the tables with types that SQL has, without the column that names the run: the commit fills it in."""
    for table in tables:
        if ROW in table.column_names:
            raise StageFailed(f"sink sql: column {ROW!r} of the rows is one that the sink writes; leave it out")
        if RUN in table.column_names:
            if not pc.all(pc.equal(table.column(RUN), run), skip_nulls=False).as_py() and table.num_rows:
                raise StageFailed(f"sink sql: column {RUN!r} names another run than {run}; leave it out")
            table = table.drop_columns([RUN])
        yield plain(table)
