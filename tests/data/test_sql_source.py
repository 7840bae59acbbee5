"""The SQL source on SQLite and PostgreSQL: every row once by ranges of any key, stable types, one state or none."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from threading import Event, Thread
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from raymlops.data import source_digest, sql_rows
from raymlops.data.sources.sql import Sql
from raymlops.data.sql_database import open_database
from raymlops.errors import DataError, SpecError, Unavailable
from raymlops.testing.source_laws import check_source

QUERY = "SELECT * FROM rows"


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/rows.db"
    return str(request.getfixturevalue("postgres"))


def _do(url: str, statement: str, rows: Sequence[Sequence[Any]] = ()) -> None:
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file, file:
            file.executemany(statement, rows) if rows else file.execute(statement)
    else:
        with psycopg.connect(url) as connection:
            words = statement.replace("?", "%s")
            connection.cursor().executemany(words, rows) if rows else connection.execute(words)


def _filled(url: str, rows: pa.Table) -> str:
    _do(url, "CREATE TABLE rows (id BIGINT, x DOUBLE PRECISION, colour TEXT, y BIGINT)")
    _do(url, "INSERT INTO rows VALUES (?, ?, ?, ?)", [tuple(row.values()) for row in rows.to_pylist()])
    return url


def _read(source: Sql) -> list[dict[str, Any]]:
    return [row for piece in source.pieces() for table in source.read(piece) for row in table.to_pylist()]


@pytest.mark.parametrize("size", [100, 333, 5000])
def test_ranges_of_a_key_keep_the_laws(url: str, rows: pa.Table, size: int) -> None:
    source = Sql(url=_filled(url, rows), query=QUERY, shard_by="id", rows_per_shard=size)
    assert len(source.pieces()) == -(-1000 // size)
    check_source(source, rows)


def test_the_whole_result_keeps_the_laws(url: str, rows: pa.Table) -> None:
    check_source(Sql(url=_filled(url, rows), query=f"{QUERY} ORDER BY id; "), rows)


def test_keys_that_repeat_or_are_missing_are_there_once(url: str, rows: pa.Table) -> None:
    keys = [None if i % 7 == 0 else i % 5 * 1000 for i in range(1000)]
    rows = rows.set_column(0, "id", pa.array(keys, pa.int64()))
    source = Sql(url=_filled(url, rows), query=QUERY, shard_by="id", rows_per_shard=50)
    assert len(source.pieces()) == 6
    ordered = sorted(rows.to_pylist(), key=lambda row: (row["id"] is None, row["id"], row["x"]))
    read = _read(source)
    assert sorted(read, key=lambda row: (row["id"] is None, row["id"], row["x"])) == ordered
    assert [row["id"] for row in read] == [row["id"] for row in ordered]
    again = Sql(url=url, query=QUERY, shard_by="id", rows_per_shard=50)
    assert _read(again) == read, "also rows of one key keep their order"


KEYS = {
    "bigint": "i * 1000003 - 500",
    "smallint": "(i % 9)::smallint",
    "numeric": "i / 7.0",
    "double precision": "CASE WHEN i % 3 = 0 THEN 'NaN' ELSE (i / 7.0)::float8 END",
    "text": "'Ä' || chr(97 + i % 26) || '''' || i",
    'text COLLATE "en-x-icu"': "CASE WHEN i % 2 = 0 THEN 'a' ELSE 'B' END || i",
    "varchar(9)": "i::text",
    "char(6)": "'a' || i",
    "uuid": "md5(i::text)::uuid",
    "date": "date '2024-01-01' + i",
    "timestamptz": "timestamptz '2024-01-01' + i * interval '7 minutes'",
    "interval": "i * interval '1 hour'",
    "boolean": "i % 2 = 0",
    "bytea": "decode(md5(i::text), 'hex')",
    "mood": "(CASE WHEN i % 2 = 0 THEN 'sad' ELSE 'glad' END)::mood",
}


@pytest.mark.parametrize("kind", KEYS)
def test_any_ordered_type_of_postgresql_is_a_key(postgres: str, kind: str) -> None:
    _do(postgres, "CREATE TYPE mood AS ENUM ('sad', 'glad')")
    _do(postgres, f"CREATE TABLE rows (k {kind}, i int)")
    _do(
        postgres,
        f"INSERT INTO rows SELECT CASE WHEN i % 50 <> 0 THEN {KEYS[kind]} END, i FROM generate_series(1, 500) i",
    )
    source = Sql(url=postgres, query="SELECT k, i FROM rows", shard_by="k", rows_per_shard=40)
    assert len(source.pieces()) >= (3 if kind in ("boolean", "mood") else 10)
    assert sorted(row["i"] for row in _read(source)) == list(range(1, 501))


@pytest.mark.parametrize(
    ("declared", "values"),
    [
        ("INTEGER", [i * 1000003 for i in range(-100, 100)]),
        ("TEXT COLLATE NOCASE", [f"{'aA'[i % 2]}{i // 2}" for i in range(200)]),
        ("REAL", [i / 7 for i in range(200)]),
        ("DATE", [f"2024-01-{1 + i % 28:02}" for i in range(200)]),
        ("BLOB", [bytes([i, 0]) for i in range(200)]),
    ],
)
def test_any_column_of_sqlite_is_a_key(tmp_path: Path, declared: str, values: list[Any]) -> None:
    url = f"sqlite:///{tmp_path}/rows.db"
    _do(url, f"CREATE TABLE rows (k {declared}, i INTEGER)")
    _do(url, "INSERT INTO rows VALUES (?, ?)", [(None if i % 50 == 0 else v, i) for i, v in enumerate(values)])
    source = Sql(url=url, query=QUERY, shard_by="k", rows_per_shard=40)
    assert len(source.pieces()) >= 5
    assert sorted(row["i"] for row in _read(source)) == list(range(200))


def test_no_row_is_no_piece(url: str) -> None:
    _do(url, "CREATE TABLE rows (id BIGINT, x DOUBLE PRECISION)")
    assert Sql(url=url, query=QUERY).pieces() == []
    assert Sql(url=url, query=QUERY, shard_by="id").pieces() == []
    assert Sql(url=url, query=QUERY).schema() == pa.schema([("id", pa.int64()), ("x", pa.float64())])


def test_types_of_postgresql_come_from_its_catalog(postgres: str) -> None:
    columns = {
        "i2 smallint": ("7", pa.int16(), 7),
        "i4 integer": ("7", pa.int32(), 7),
        "i8 bigint": ("9223372036854775807", pa.int64(), 2**63 - 1),
        "f4 real": ("0.1", pa.float32(), pytest.approx(0.1)),
        "f8 double precision": ("'-Infinity'", pa.float64(), float("-inf")),
        "n numeric": ("1.5", pa.float64(), 1.5),
        "d numeric(10, 2)": ("1.5", pa.decimal128(10, 2), Decimal("1.50")),
        "b boolean": ("true", pa.bool_(), True),
        "t text": ("E'a,\"b\"\\r\\nc'", pa.string(), 'a,"b"\r\nc'),
        "e varchar(3)": ("''", pa.string(), ""),
        "day date": ("'2024-02-29'", pa.date32(), date(2024, 2, 29)),
        "at timestamp": ("'2024-02-29 01:02:03.4'", pa.timestamp("us"), datetime(2024, 2, 29, 1, 2, 3, 400_000)),
        "z timestamptz": ("'2024-02-29 01:00+02'", pa.timestamp("us", "UTC"), datetime(2024, 2, 28, 23, tzinfo=UTC)),
        "clock time": ("'01:02:03'", pa.time64("us"), time(1, 2, 3)),
        "u uuid": ("'00000000-0000-0000-0000-00000000002a'", pa.string(), "00000000-0000-0000-0000-00000000002a"),
        "raw bytea": ("'\\x00ff'", pa.binary(), b"\x00\xff"),
        "j json": ("'{\"a\": 1}'", pa.string(), '{"a": 1}'),
        "a integer[]": ("'{1,NULL}'", pa.string(), "{1,NULL}"),
    }
    _do(postgres, f"CREATE TABLE rows (id int, {', '.join(columns)})")
    _do(postgres, f"INSERT INTO rows VALUES (1, {', '.join(value for value, _, _ in columns.values())})")
    _do(postgres, "INSERT INTO rows (id) VALUES (2), (NULL)")
    source = Sql(url=postgres, query=QUERY, shard_by="id", rows_per_shard=1)
    expected = pa.schema([("id", pa.int32()), *((name.split()[0], kind) for name, (_, kind, _) in columns.items())])
    assert source.schema() == expected
    parts = [pa.concat_tables(source.read(piece)) for piece in source.pieces()]
    assert [part.schema for part in parts] == [expected] * 3, "also where every value is missing"
    assert [*parts[0].to_pylist()[0].values()][1:] == [value for _, _, value in columns.values()]
    assert {*parts[1].to_pylist()[0].values()} == {2, None}


def test_types_of_sqlite_are_declared_or_those_of_the_whole_result(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/rows.db"
    _do(
        url,
        "CREATE TABLE rows (id INTEGER PRIMARY KEY, ok BOOLEAN, x FLOAT, t VARCHAR(9), raw BLOB, day DATE, n NUMERIC)",
    )
    _do(url, "INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?)", [
        (1, None, None, None, None, None, 1), (2, 1, 2, "a", b"\x00", "2024-02-29", 2.5),
        (3, 0, 0.5, "", b"", None, None),
    ])  # fmt: skip
    source = Sql(url=url, query="SELECT *, id + 1 AS more, NULL AS none FROM rows", shard_by="id", rows_per_shard=1)
    assert source.schema() == pa.schema([
        ("id", pa.int64()), ("ok", pa.bool_()), ("x", pa.float64()), ("t", pa.string()), ("raw", pa.binary()),
        ("day", pa.string()), ("n", pa.float64()), ("more", pa.int64()), ("none", pa.null()),
    ])  # fmt: skip
    parts = [pa.concat_tables(source.read(piece)) for piece in source.pieces()]
    assert {part.schema for part in parts} == {source.schema()}
    assert [*parts[1].to_pylist()[0].values()] == [2, True, 2.0, "a", b"\x00", "2024-02-29", 2.5, 3, None]


@pytest.mark.parametrize(("declared", "value"), [("BOOLEAN", 2), ("INTEGER", "many"), ("REAL", "much")])
def test_a_value_that_is_not_what_sqlite_declares_is_named(tmp_path: Path, declared: str, value: Any) -> None:
    url = f"sqlite:///{tmp_path}/rows.db"
    _do(url, f"CREATE TABLE rows (n {declared})")
    _do(url, "INSERT INTO rows VALUES (?)", [(value,)])
    with pytest.raises(DataError, match=r"column 'n' is .* and holds another value.* cast it in the query"):
        _read(Sql(url=url, query=QUERY))


def test_equal_rows_have_equal_fingerprints_wherever_and_in_whatever_order_they_lie(url: str, rows: pa.Table) -> None:
    source = Sql(url=_filled(url, rows), query=QUERY, shard_by="id", rows_per_shard=300)
    before = source.pieces()
    _do(url, "DELETE FROM rows")
    _do(url, "INSERT INTO rows VALUES (?, ?, ?, ?)", [tuple(row.values()) for row in reversed(rows.to_pylist())])
    _do(url, "CREATE TABLE others (id BIGINT)")
    _do(url, "VACUUM") if url.startswith("sqlite") else None
    assert Sql(url=url, query=QUERY, shard_by="id", rows_per_shard=300).pieces() == before


@pytest.mark.parametrize("shard_by", [None, "id"])
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE rows SET x = x + 1e-9 WHERE id = 500",
        "UPDATE rows SET y = NULL WHERE id = 500",
        "UPDATE rows SET colour = '' WHERE id = 500",
        "UPDATE rows SET y = y + 1 WHERE id = 500",
        "DELETE FROM rows WHERE id = 500",
        "INSERT INTO rows SELECT * FROM rows WHERE id = 500",
        "UPDATE rows SET x = -x WHERE id IN (500, 501)",
    ],
)
def test_any_change_of_a_row_changes_its_piece_and_the_listed_one_is_refused(
    url: str, rows: pa.Table, change: str, shard_by: str | None
) -> None:
    source = Sql(url=_filled(url, rows), query=QUERY, shard_by=shard_by, rows_per_shard=250)
    listed, digest = source.pieces(), source_digest(source)
    _do(url, change)
    assert source_digest(source) != digest
    assert {piece.fingerprint for piece in source.pieces()} != {piece.fingerprint for piece in listed}
    refused = 0
    for piece in listed:
        try:
            list(source.read(piece, columns=["id"]))
        except DataError as error:
            assert "changed while they were read" in str(error)  # noqa: PT017 - only the changed piece is refused
            refused += 1
    assert refused == 1


class _Writer:
    """Move amounts between accounts, whose sum stays 0, until it is told to end; each transfer is a transaction."""

    def __init__(self, url: str) -> None:
        self.moves, self._over = 0, Event()
        self._thread = Thread(target=self._move, args=(url,))

    def _move(self, url: str) -> None:
        with psycopg.connect(url) as connection:
            while not self._over.is_set():
                giver, taker = self.moves * 7 % 2000, self.moves * 13 % 2000
                connection.execute("UPDATE rows SET y = y - 1 WHERE id = %s", [giver])
                connection.execute("UPDATE rows SET y = y + 1 WHERE id = %s", [taker])
                connection.commit()
                self.moves += 1

    def __enter__(self) -> "_Writer":
        self._thread.start()
        while not self.moves:
            assert self._thread.is_alive()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def test_beside_a_writer_one_state_is_read_or_none(postgres: str) -> None:
    _do(postgres, "CREATE TABLE rows (id bigint PRIMARY KEY, y bigint)")
    _do(postgres, "INSERT INTO rows SELECT i, 0 FROM generate_series(0, 1999) i")
    source = Sql(url=postgres, query=QUERY, shard_by="id", rows_per_shard=100)
    refused = 0
    with _Writer(postgres) as writer:
        for _ in range(10):
            try:
                assert sum(row["y"] for row in _read(source)) == 0, "no mixture of two states"
            except DataError as error:
                assert "changed while they were read" in str(error)  # noqa: PT017 - a state may be read whole
                refused += 1
        listed = source.pieces()
    assert writer.moves > 20
    assert refused
    still = Sql(url=postgres, query=QUERY, shard_by="id", rows_per_shard=100)
    assert sum(row["y"] for row in _read(still)) == 0
    assert len(listed) == 20


def test_rows_come_a_bounded_number_at_a_time(url: str) -> None:
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) SELECT i FROM n"
    _do(url, "CREATE TABLE rows (id BIGINT)")
    _do(url, f"INSERT INTO rows {numbers}")
    for source in (Sql(url=url, query=QUERY), Sql(url=url, query=QUERY, shard_by="id")):
        (piece,) = source.pieces()
        read: Iterator[pa.Table] = source.read(piece)
        assert [table.num_rows for table in read] == [131072, 131072, 37856]


def test_a_password_is_in_no_message_and_no_piece(
    postgres: str, rows: pa.Table, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PASSWORD", "opensesame")
    with_password = _filled(postgres, rows).replace("tester@", "tester:${PASSWORD}@")
    source = Sql(url=with_password, query=QUERY, shard_by="id", rows_per_shard=300)
    assert "opensesame" not in repr(source.pieces()) + repr(source)
    away = with_password.rsplit(":", 1)[0] + ":1/rows"
    for wrong, kind in (
        (Sql(url=away, query=QUERY), Unavailable),
        (Sql(url=with_password, query="SELECT opensesame FROM rows"), DataError),
        (Sql(url="postgresql//me:opensesame@host", query=QUERY), SpecError),
        (Sql(url="postgresql://me:opensesame@host:port/x", query=QUERY), SpecError),
    ):
        with pytest.raises(kind) as raised:
            wrong.schema()
        assert "opensesame" not in str(raised.value)
    monkeypatch.delenv("PASSWORD")
    with pytest.raises(SpecError, match=r"\$\{PASSWORD\} is not in the environment"):
        Sql(url=with_password, query=QUERY).schema()


def test_what_the_query_cannot_give_is_named(url: str, rows: pa.Table) -> None:
    _filled(url, rows)
    with pytest.raises(DataError, match="shard_by: the result has no column idd; did you mean 'id'"):
        Sql(url=url, query=QUERY, shard_by="idd").pieces()
    with pytest.raises(DataError, match="column id stands twice"):
        Sql(url=url, query="SELECT id, id FROM rows").schema()
    with pytest.raises(DataError, match=r"absent"):
        Sql(url=url, query="SELECT * FROM absent").schema()
    with pytest.raises(SpecError, match="rows_per_shard: 0 given"):
        Sql(url=url, query=QUERY, rows_per_shard=0)


@pytest.mark.parametrize("more", ["colour LIKE 'r%'", "'12:30' <> ':id'", "x > 0 -- a comment"])
def test_a_query_means_what_it_says(url: str, rows: pa.Table, more: str) -> None:
    _filled(url, rows)
    source = Sql(url=url, query=f"SELECT * FROM rows WHERE {more}", shard_by="id", rows_per_shard=100)
    kept = [
        row
        for row in rows.to_pylist()
        if ("LIKE" not in more or row["colour"] == "red") and ("x >" not in more or row["x"] > 0)
    ]
    assert _read(source) == kept
    assert len(_read(Sql(url=url, query=f"SELECT * FROM rows WHERE {more}"))) == len(kept)


def test_a_query_cannot_write(postgres: str) -> None:
    _do(postgres, "CREATE SEQUENCE numbers")
    with pytest.raises(DataError, match="read-only transaction"):
        Sql(url=postgres, query="SELECT nextval('numbers') AS id").pieces()


def test_settings_of_a_session_change_no_value_and_no_fingerprint(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _do(postgres, "CREATE TABLE rows (id timestamptz, day date, raw bytea, x double precision)")
    _do(postgres, "INSERT INTO rows SELECT timestamptz '2024-01-01' + i * interval '1 hour', date '2024-02-03' + i, "
                  "'\\x00', i / 7.0 FROM generate_series(1, 100) i")  # fmt: skip
    source = Sql(url=postgres, query=QUERY, shard_by="id", rows_per_shard=30)
    before, rows = source.pieces(), _read(source)
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")
    monkeypatch.setenv("PGOPTIONS", "-c datestyle=German -c bytea_output=escape -c extra_float_digits=-5")
    assert source.pieces() == before
    assert _read(source) == rows


@pytest.mark.parametrize("key", ["i", "d", "at", "u", "t", "x"])
def test_a_database_without_a_way_of_its_own_is_read_by_its_values(postgres: str, key: str) -> None:
    columns = {"i": "i::int", "d": "date '2024-01-01' + i / 3", "at": "timestamp '2024-01-01' + i * interval '1 hour'",
               "u": "md5(i::text)::uuid", "t": "'a:b%' || i", "x": "i / 8.0"}  # fmt: skip
    values = ", ".join(f"{value} AS {name}" for name, value in columns.items())
    _do(postgres, f"CREATE TABLE rows AS SELECT {values} FROM generate_series(1, 100) i")
    _do(postgres, f"UPDATE rows SET {key} = NULL WHERE x > 12")
    engine, query = open_database(postgres, where="test"), "SELECT * FROM rows WHERE 'a:b%' LIKE 'a:%' -- all"
    schema = sql_rows.read_schema(engine, query)
    kinds = [pa.int64(), pa.date32(), pa.timestamp("us"), pa.string(), pa.string()]
    assert schema.types[:5] == kinds
    assert pa.types.is_decimal(schema.field("x").type)
    listed = sql_rows.list_shards(engine, query, by=key, size=30, names=schema.names)
    assert [content.rows for _, content in listed] == ([32, 30, 30, 4, 4] if key == "d" else [30, 30, 30, 6, 4])
    for shard, content in listed:
        ((table, read),) = sql_rows.read_rows(engine, query, schema, shard, columns=["x", "u"])
        assert table.schema.names == ["x", "u"]
        assert read == content


def test_a_query_longer_than_a_file_s_name_has_a_digest(url: str, rows: pa.Table) -> None:
    source = Sql(url=_filled(url, rows), query=f"SELECT * FROM rows WHERE id > -1{' AND id > -1' * 500}")
    assert source_digest(source)
