"""The SQL sink on SQLite and PostgreSQL, adding and replacing rows: all of a run is seen or nothing, whatever fails."""

import multiprocessing
import resource
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from raymlops.data.sinks.sql import Sql
from raymlops.data.sources.sql import Sql as SqlSource
from raymlops.errors import DataError, SpecError, StageFailed
from raymlops.plugins import build
from raymlops.testing.sink_laws import check_sink


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/rows.db"
    return str(request.getfixturevalue("postgres"))


@pytest.fixture
def tables() -> list[pa.Table]:
    return [
        pa.table({"id": range(start, start + 50), "p": [i / 7 for i in range(50)], "t": ["a", None] * 25})
        for start in (0, 50, 100)
    ]


def _rows(url: str, query: str) -> list[Any]:
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file, file:
            return file.execute(query).fetchall()
    with psycopg.connect(url) as connection:
        cursor = connection.execute(query)
        return cursor.fetchall() if cursor.description else []


def _read_back(sink: Sql, run: str) -> pa.Table | None:
    """Return the rows of a run without the two columns that the sink adds."""
    source: SqlSource = build("raymlops.data.sources", sink.source(run), where="sink")
    try:
        read = [table for piece in source.pieces() for table in source.read(piece)]
    except DataError:
        return None
    return pa.concat_tables(read).drop_columns(["run_id", "run_row"]) if read else None


def _back(sink: Sql, run: str) -> pa.Table:
    read = _read_back(sink, run)
    assert read is not None
    return read


def _run(sink: Sql, tables: Sequence[pa.Table], run: str = "r") -> bool:
    parts = [part for i, table in enumerate(tables) for part in sink.write([table], run=run, name=f"p{i}")]
    return sink.commit(run=run, parts=parts, manifest=b"{}")


@pytest.mark.parametrize("key", [(), ("id", "run_id")], ids=["append", "upsert"])
def test_a_table_keeps_the_laws(url: str, tables: list[pa.Table], key: tuple[str, ...]) -> None:
    sink = Sql(url=url, table="scores", key=key)
    check_sink(sink, tables, read_back=lambda run: _read_back(sink, run))


def _scores(url: str) -> list[Any]:
    return sorted(_rows(url, "SELECT id, p, run_id FROM scores"))


def _tables(url: str) -> set[str]:
    names = (
        "sqlite_master WHERE type = 'table'" if url.startswith("sqlite") else "pg_tables WHERE schemaname = 'public'"
    )
    return {name for (name,) in _rows(url, f"SELECT {'name' if 'sqlite' in names else 'tablename'} FROM {names}")}


def _table(ids: Sequence[Any], p: Sequence[float | None]) -> pa.Table:
    return pa.table({"id": ids, "p": pa.array(p, pa.float64())})


def test_after_a_commit_the_manifest_stays_and_nothing_that_was_staged(url: str, tables: list[pa.Table]) -> None:
    sink = Sql(url=url, table="scores")
    parts = sink.write(tables, run="r", name="p")
    assert len(_tables(url)) == 2
    assert sink.commit(run="r", parts=parts, manifest=b'{"run": "r"}')
    assert _tables(url) == {"scores", "raymlops_runs"}
    ((target, run, rows, manifest),) = _rows(url, "SELECT target, run, rows, manifest FROM raymlops_runs")
    assert (target, run, rows, bytes(manifest)) == ("scores", "r", 150, b'{"run": "r"}')
    sink.write(tables, run="r", name="late")
    assert _tables(url) == {"scores", "raymlops_runs"}


def test_a_later_run_replaces_the_rows_of_its_keys_and_no_others(url: str) -> None:
    sink = Sql(url=url, table="scores", key=("id",))
    assert _run(sink, [_table([1, 2], [0.1, 0.2]), _table([3], [0.3])], "one")
    assert _run(sink, [_table([2, 4], [0.9, None])], "two")
    assert _scores(url) == [(1, 0.1, "one"), (2, 0.9, "two"), (3, 0.3, "one"), (4, None, "two")]
    assert _run(sink, [_table([2], [0.5])], "one") is False
    one = _back(sink, "one")
    assert one.to_pylist() == [{"id": 1, "p": 0.1}, {"id": 3, "p": 0.3}], "what no later run has replaced"


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([1, 5, 5], "two rows of the run have the key {'id': 5}"),
        ([1, None], "a row without a whole key has the key {'id': None}"),
    ],
    ids=["twins", "no key"],
)
def test_rows_that_would_replace_one_another_are_refused(url: str, ids: list[Any], words: str) -> None:
    sink = Sql(url=url, table="scores", key=("id",))
    _run(sink, [_table([1], [0.1])], "one")
    with pytest.raises(StageFailed, match=words):
        _run(sink, [_table(ids, [0.5] * len(ids))], "two")
    assert _scores(url) == [(1, 0.1, "one")]


MISFITS = {
    "no column": ("id bigint", "column 'p' is not in the table, the rows have double"),
    "another type": ("id bigint, p text", r"column 'p' is (?i:text), the rows have double, which needs (?i:double)"),
    "no place": ("id bigint, p double precision, x int NOT NULL", "column 'x' must have a value, the rows have none"),
    "no run": ("id bigint, p double precision, other text", "column 'run_id' is not in the table"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_table_that_cannot_hold_the_rows_is_refused_before_anything_is_written(url: str, case: str) -> None:
    columns, words = MISFITS[case]
    more = "" if case == "no run" else ", run_id text, run_row bigint"
    _rows(url, f"CREATE TABLE scores ({columns}{more})")
    with pytest.raises(StageFailed, match=words):
        Sql(url=url, table="scores").write([_table([1], [0.5])], run="r", name="p")
    assert _tables(url) == {"scores"}


def test_a_key_without_a_column_or_a_unique_index_is_refused(url: str) -> None:
    with pytest.raises(StageFailed, match="key: no column who in the rows; they have id, p"):
        Sql(url=url, table="scores", key=("who",)).write([_table([1], [0.5])], run="r", name="p")
    _rows(url, "CREATE TABLE scores (id bigint, p double precision, run_id text, run_row bigint)")
    sink = Sql(url=url, table="scores", key=("id",))
    with pytest.raises(StageFailed, match="no unique index is on id"):
        sink.write([_table([1], [0.5])], run="r", name="p")
    _rows(url, "CREATE UNIQUE INDEX one ON scores (id)")
    assert _run(sink, [_table([1], [0.5])])


def test_narrow_columns_of_postgresql_are_refused_and_wide_ones_taken(postgres: str) -> None:
    narrow = {"smallint": pa.int32(), "real": pa.float64(), "numeric(4,2)": pa.decimal128(6, 2), "bigint": pa.uint64(),
              "timestamp": pa.timestamp("us", "UTC"), "integer": pa.string(), "text": pa.bool_()}  # fmt: skip
    wide = {"bigint": pa.int8(), "numeric": pa.float64(), "numeric(8,3)": pa.decimal128(6, 2), "uuid": pa.string(),
            "double precision": pa.float32(), "numeric(20)": pa.uint64(), "jsonb": pa.string()}  # fmt: skip
    for table, kinds in (("narrow", narrow), ("wide", wide)):
        columns = ", ".join(f"c{i} {name}" for i, name in enumerate(kinds))
        _rows(
            postgres, f"CREATE TABLE {table} ({columns}, run_id text, run_row bigint, noted timestamptz DEFAULT now())"
        )
        rows = pa.table({f"c{i}": pa.nulls(1, kind) for i, kind in enumerate(kinds.values())})
        if table == "wide":
            assert _run(Sql(url=postgres, table=table), [rows])
            continue
        with pytest.raises(StageFailed) as raised:
            Sql(url=postgres, table=table).write([rows], run="r", name="p")
        assert len(raised.value.problems) == len(narrow)


def test_types_come_back(url: str) -> None:
    rows = pa.table({
        "i": pa.array([1, None], pa.int32()), "b": [True, None], "x": pa.array([0.1, None], pa.float32()),
        "raw": [b"\x00\xff", None], "t": ['a,"b"\r\n\\N', ""], "c": pa.array(["u", None]).dictionary_encode(),
        "d": [date(2024, 2, 29), None], "at": pa.array([datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=UTC), None]),
        "n": [Decimal("1.50"), None], "none": pa.nulls(2), "big": pa.array([2**62, None], pa.int64()),
    })  # fmt: skip
    sink = Sql(url=url, table="scores")
    assert _run(sink, [rows])
    back = _back(sink, "r")
    texts = {"d": "2024-02-29", "at": "2024-02-29 01:02:03.000004Z", "n": "1.50"} if url.startswith("sqlite") else {}
    first, second = rows.to_pylist()
    assert back.to_pylist() == [first | texts, second]


def test_names_are_quoted(url: str) -> None:
    sink = Sql(url=url, table='Scores "2" 50%:a', key=("the:id", 'a "%s"'))
    rows = pa.table({"the:id": [1, 2], 'a "%s"': ["x", "y"], "select": [0.1, 0.2]})
    assert _run(sink, [rows], "it's")
    assert _back(sink, "it's").equals(rows)


def test_a_schema_of_postgresql_is_named_before_the_table(postgres: str, tables: list[pa.Table]) -> None:
    sink = Sql(url=postgres, table="out.scores")
    with pytest.raises(StageFailed, match='schema "out" does not exist'):
        sink.write(tables, run="r", name="p")
    _rows(postgres, "CREATE SCHEMA out")
    try:
        assert _run(sink, tables)
        assert _rows(postgres, "SELECT count(*) FROM out.scores") == [(150,)]
        assert _tables(postgres) == set()
    finally:
        _rows(postgres, "DROP SCHEMA out CASCADE")


def test_rows_that_were_removed_can_be_committed_again(url: str, tables: list[pa.Table]) -> None:
    sink = Sql(url=url, table="scores")
    assert _run(sink, tables)
    _rows(url, "DELETE FROM scores")
    assert SqlSource(**sink.source("r")["sql"]).pieces() == []  # type: ignore[index,call-overload,arg-type]
    assert _run(sink, tables)
    assert _run(sink, tables) is False
    assert len(_scores(url)) == 150
    _rows(url, "DROP TABLE scores")
    parts = sink.write(tables, run="r", name="p")
    with ThreadPoolExecutor(2) as pool:
        first = [pool.submit(sink.commit, run="r", parts=parts, manifest=b"{}") for _ in range(2)]
    assert sorted(done.result() for done in first) == [False, True]
    assert len(_scores(url)) == 150


def test_rows_come_back_in_the_order_in_which_they_were_written(url: str) -> None:
    sink = Sql(url=url, table="scores")
    rows = _table([9, 2, 7, 2], [0.1, 0.4, 0.3, 0.2])
    parts = [*sink.write([rows.slice(2)], run="r", name="a"), *sink.write([rows.slice(0, 2)], run="r", name="b")]
    assert sink.commit(run="r", parts=parts[::-1], manifest=b"{}")
    assert _back(sink, "r").equals(rows)


def _write(url: str, index: int) -> Any:
    return Sql(url=url, table="scores").write([_table([index] * 500, [0.5] * 500)], run="r", name=f"p{index}")


def _pool(kind: str) -> Executor:
    return ThreadPoolExecutor(8) if kind == "threads" else ProcessPoolExecutor(2, multiprocessing.get_context("spawn"))


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_workers_write_parts_at_once(url: str, kind: str) -> None:
    indexes = sorted([*range(8), *range(8)])  # neighbours write the same part
    with _pool(kind) as workers:
        parts = [part for made in workers.map(_write, [url] * len(indexes), indexes) for part in made]
    assert parts[::2] == parts[1::2]
    assert Sql(url=url, table="scores").commit(run="r", parts=parts[::2], manifest=b"{}")
    assert [i for i, _, _ in _scores(url)] == [i for i in range(8) for _ in range(500)]


def test_rows_can_come_from_the_database_that_they_go_to(
    url: str, tables: list[pa.Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raymlops.data.sinks.sql._ROWS_OF_A_PART", 40)
    monkeypatch.setattr("raymlops.data.sql_rows._ROWS_AT_ONCE", 30)
    first = Sql(url=url, table="first")
    assert _run(first, tables)
    source = SqlSource(url=url, query="SELECT id, p, t FROM first", shard_by="id", rows_per_shard=100)
    second = Sql(url=url, table="second")
    parts = [
        part
        for i, piece in enumerate(source.pieces())
        for part in second.write(source.read(piece), run="r", name=f"p{i}")
    ]
    assert [part.rows for part in parts] == [40, 40, 20, 40, 10]
    assert second.commit(run="r", parts=parts, manifest=b"{}")
    assert _back(second, "r").equals(pa.concat_tables(tables))


def _nothing_seen(url: str) -> bool:
    return "scores" not in _tables(url) or not _rows(url, "SELECT 1 FROM scores")


def test_a_constraint_that_is_broken_shows_nothing_and_a_retry_succeeds(url: str, tables: list[pa.Table]) -> None:
    sink = Sql(url=url, table="scores")
    columns = "id bigint, p double precision CHECK (p < 7), t text, run_id text, run_row bigint"
    _rows(url, f"CREATE TABLE scores ({columns})")
    with pytest.raises(StageFailed, match=r"(?i)check constraint"):
        _run(sink, tables)
    assert _nothing_seen(url)
    assert _rows(url, "SELECT * FROM raymlops_runs") == []
    _rows(url, "DROP TABLE scores")
    assert _run(sink, tables)
    assert len(_scores(url)) == 150


def test_a_value_that_is_too_long_for_its_column_is_named_and_not_written(
    postgres: str, tables: list[pa.Table]
) -> None:
    _rows(postgres, "CREATE TABLE scores (id bigint, p double precision, t varchar(3), run_id text, run_row bigint)")
    long = tables[0].set_column(2, "t", pa.array(["long"] * 50))
    with pytest.raises(StageFailed, match="value too long for type character varying"):
        _run(Sql(url=postgres, table="scores"), [tables[0], long])
    assert _nothing_seen(postgres)
    assert _run(Sql(url=postgres, table="scores"), tables)


@contextmanager
def _files_of_at_most(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("step", ["write", "commit"])
def test_a_disk_without_space_shows_nothing_and_a_retry_succeeds(tmp_path: Path, step: str) -> None:
    url = f"sqlite:///{tmp_path}/rows.db"
    sink, rows = Sql(url=url, table="scores"), _table(range(20_000), [0.5] * 20_000)
    if step == "write":
        with _files_of_at_most(500_000), pytest.raises(StageFailed, match=r"full|disk I/O error"):
            sink.write([rows], run="r", name="p")
    parts = sink.write([rows], run="r", name="p")
    if step == "commit":
        with _files_of_at_most((tmp_path / "rows.db").stat().st_size + 4096), pytest.raises(StageFailed):
            sink.commit(run="r", parts=parts, manifest=b"{}")
    assert _nothing_seen(url)
    assert sink.commit(run="r", parts=parts, manifest=b"{}")
    assert len(_scores(url)) == 20_000


def _killed(url: str, work: Callable[[], object]) -> None:
    """Run `work` in a thread until its connection sleeps in the server, end that connection, and pass on its error."""
    asleep = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    with ThreadPoolExecutor(1) as pool:
        running, until = pool.submit(work), time.monotonic() + 60
        while not _rows(url, asleep):
            assert not running.done(), running.result()
            assert time.monotonic() < until
        running.result()


SLOW = """CREATE OR REPLACE FUNCTION slow(id bigint) RETURNS boolean LANGUAGE plpgsql AS
$$ BEGIN IF id = 75 THEN PERFORM pg_sleep(60); END IF; RETURN true; END $$"""


@pytest.mark.parametrize("step", ["write", "commit"])
def test_a_connection_that_is_killed_shows_nothing_and_a_retry_succeeds(
    postgres: str, tables: list[pa.Table], step: str
) -> None:
    _rows(postgres, "CREATE TABLE scores (id bigint, p double precision, t text, run_id text, run_row bigint)")
    _rows(postgres, SLOW)
    sink = Sql(url=postgres, table="scores")
    parts = [*sink.write([tables[0]], run="r", name="p0")]
    if step == "write":
        (staged,) = (name for name in _tables(postgres) if name.endswith("_rows"))
        _rows(postgres, f"ALTER TABLE {staged} ADD CHECK (slow(id))")
    else:
        _rows(postgres, "ALTER TABLE scores ADD CHECK (slow(id))")
        parts += sink.write([tables[1]], run="r", name="p1")
    work = {
        "write": lambda: sink.write([tables[1]], run="r", name="p1"),
        "commit": lambda: sink.commit(run="r", parts=parts, manifest=b"{}"),
    }
    with pytest.raises(StageFailed, match="terminating connection due to administrator command"):
        _killed(postgres, work[step])
    assert _nothing_seen(postgres)
    _rows(postgres, SLOW.replace("id = 75", "false"))
    if step == "write":
        parts += sink.write([tables[1]], run="r", name="p1")
    assert sink.commit(run="r", parts=parts, manifest=b"{}")
    assert [i for i, _, _ in _scores(postgres)] == [*range(100)]


def test_rows_that_no_column_holds_or_of_another_run_are_refused(tmp_path: Path) -> None:
    sink = Sql(url=f"sqlite:///{tmp_path}/rows.db", table="scores")
    for rows, words in (
        (pa.table({"id": [1], "l": [[1, 2]]}), r"no column of a table holds 'l' \(list"),
        (pa.table({"id": [1], "run_id": ["other"]}), "column 'run_id' names another run than r"),
        (pa.table({"id": [1, 2], "run_id": ["r", None]}), "column 'run_id' names another run than r"),
        (pa.table({"id": [1], "run_row": [1]}), "column 'run_row' of the rows is one that the sink writes"),
        (pa.table({"id": pa.array([2**64 - 1], pa.uint64())}), "beyond the 64 bits of SQLite"),
    ):
        with pytest.raises(StageFailed, match=words):
            sink.write([rows], run="r", name="p")
    assert _run(sink, [pa.table({"id": [1], "run_id": ["r"]})])
    assert _rows(sink.url, "SELECT * FROM scores") == [(1, "r", 0)]


def test_wrong_options_are_named_and_a_password_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("postgresql://me:opensesame@host/rows", "postgresql://host/rows?password=opensesame"):
        with pytest.raises(SpecError, match="holds a password") as raised:
            Sql(url=url, table="scores")
        assert "opensesame" not in str(raised.value)
    monkeypatch.setenv("PASSWORD", "opensesame")
    sink = Sql(url="postgresql://me:${PASSWORD}@127.0.0.1:1/rows", table="scores")
    assert "opensesame" not in str(sink.source("r"))
    with pytest.raises(StageFailed, match="connection") as failed:
        sink.write([_table([1], [1])], run="r", name="p")
    assert "opensesame" not in str(failed.value)
    with pytest.raises(SpecError, match=r"table: 'a\.' given"):
        Sql(url="sqlite:///x", table="a.")
    with pytest.raises(SpecError, match="key: id, id given"):
        Sql(url="sqlite:///x", table="a", key=("id", "id"))
