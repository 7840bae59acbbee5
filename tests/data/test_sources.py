"""Every kind of source keeps the same laws: each row once, in order, by pieces that can be read apart and again."""

import json
import sqlite3
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from raymlops.data.sources.csv import Csv
from raymlops.data.sources.jsonl import Jsonl
from raymlops.data.sources.parquet import Parquet
from raymlops.data.sources.sql import Sql
from raymlops.errors import DataError, MissingExtra
from raymlops.protocols import Source
from raymlops.testing.source_laws import check_source


def _parquet(folder: Path, rows: pa.Table) -> Source:
    folder.mkdir(exist_ok=True)
    pq.write_table(rows.slice(0, 600), folder / "a.parquet", row_group_size=250)
    pq.write_table(rows.slice(600), folder / "b.parquet")
    (folder / "_SUCCESS").touch()
    return Parquet(path=str(folder))


def _csv(folder: Path, rows: pa.Table) -> Source:
    folder.mkdir(exist_ok=True)
    pa_csv.write_csv(rows.slice(0, 600), folder / "a.csv")
    pa_csv.write_csv(rows.slice(600), folder / "b.csv")
    return Csv(path=str(folder / "*.csv"))


def _jsonl(folder: Path, rows: pa.Table) -> Source:
    folder.mkdir(exist_ok=True)
    for name, part in (("a", rows.slice(0, 600)), ("b", rows.slice(600))):
        lines = [json.dumps({k: v for k, v in row.items() if v is not None}) for row in part.to_pylist()]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return Jsonl(path=str(folder))


def _sql(folder: Path, rows: pa.Table) -> Source:
    folder.mkdir(exist_ok=True)
    with sqlite3.connect(folder / "rows.db") as connection:
        connection.execute("CREATE TABLE rows (id INTEGER, x REAL, colour TEXT, y INTEGER)")
        connection.executemany("INSERT INTO rows VALUES (?, ?, ?, ?)", [tuple(r.values()) for r in rows.to_pylist()])
    return Sql(url=f"sqlite:///{folder}/rows.db", query="SELECT * FROM rows ORDER BY id")


@pytest.mark.parametrize("make", [_parquet, _csv, _jsonl, _sql], ids=["parquet", "csv", "jsonl", "sql"])
def test_a_source_keeps_the_laws(make: object, tmp_path: Path, rows: pa.Table) -> None:
    assert callable(make)
    check_source(make(tmp_path / "data", rows), rows)


def test_row_groups_are_joined_up_to_a_bound_and_read_apart(
    tmp_path: Path, rows: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raymlops.data.row_groups._ROWS_OF_A_PIECE", 500)
    source = _parquet(tmp_path / "data", rows)
    assert [(piece.part, piece.parts, piece.rows) for piece in source.pieces()] == [
        (0, 2, 500),
        (2, 1, 100),
        (0, 1, 400),
    ]
    check_source(source, rows)


def test_a_changed_file_changes_its_fingerprint(tmp_path: Path, rows: pa.Table) -> None:
    before = [piece.fingerprint for piece in _parquet(tmp_path / "data", rows).pieces()]
    pq.write_table(rows.slice(1), tmp_path / "data" / "b.parquet")
    after = [piece.fingerprint for piece in Parquet(path=str(tmp_path / "data")).pieces()]
    assert before[0] == after[0]
    assert before[1] != after[1]


@pytest.mark.parametrize("make", [_parquet, _csv, _jsonl, _sql], ids=["parquet", "csv", "jsonl", "sql"])
def test_rows_that_change_before_they_are_read_are_refused(make: object, tmp_path: Path, rows: pa.Table) -> None:
    assert callable(make)
    last = make(tmp_path / "data", rows).pieces()[-1]
    if make is _sql:
        with sqlite3.connect(tmp_path / "data" / "rows.db") as connection:
            connection.execute("UPDATE rows SET x = 7 WHERE id = 3")
        again: Source = Sql(url=f"sqlite:///{tmp_path}/data/rows.db", query="SELECT * FROM rows ORDER BY id")
    else:
        again = make(tmp_path / "data", rows.take(list(reversed(range(rows.num_rows)))))
    with pytest.raises(DataError, match="changed while"):
        list(again.read(last))


def test_a_truncated_parquet_file_is_named(tmp_path: Path, rows: pa.Table) -> None:
    _parquet(tmp_path / "data", rows)
    whole = (tmp_path / "data" / "b.parquet").read_bytes()
    (tmp_path / "data" / "b.parquet").write_bytes(whole[:-100])
    with pytest.raises(DataError, match=r"b\.parquet: is not a readable Parquet file"):
        Parquet(path=str(tmp_path / "data")).schema()
    broken = Parquet(path=str(tmp_path / "data")).pieces()[-1]
    assert broken.rows is None
    with pytest.raises(DataError, match=r"b\.parquet: is not a readable Parquet file"):
        list(Parquet(path=str(tmp_path / "data")).read(broken))


def test_files_with_other_columns_or_types_are_named(tmp_path: Path, rows: pa.Table) -> None:
    source = _parquet(tmp_path / "data", rows)
    pq.write_table(rows.drop_columns(["x"]), tmp_path / "data" / "c.parquet")
    with pytest.raises(DataError, match=r"c\.parquet: its columns differ .* in x"):
        source.schema()
    texts = rows.set_column(1, "x", rows.column("x").cast(pa.string()))
    pq.write_table(texts, tmp_path / "data" / "c.parquet")
    with pytest.raises(DataError, match=r"column .x. is string, in .* it is double"):
        source.schema()


def test_a_path_without_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file found"):
        Parquet(path=str(tmp_path / "*.parquet")).schema()


def test_csv_nulls_are_missing_and_whole_numbers_widen(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("n,t\n1,a\nNA,NA\n")
    (tmp_path / "b.csv").write_text("n,t\n1.5,b\n")
    source = Csv(path=str(tmp_path / "*.csv"))
    assert source.schema() == pa.schema([("n", pa.float64()), ("t", pa.string())])
    assert pa.concat_tables(source.read(source.pieces()[0])).to_pylist() == [
        {"n": 1.0, "t": "a"},
        {"n": None, "t": None},
    ]


def test_a_ragged_csv_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("n,t\n1,a\n1,2,3\n")
    with pytest.raises(DataError, match=r"a\.csv: cannot be read as CSV"):
        Csv(path=str(tmp_path / "a.csv")).schema()


def test_a_wrong_query_and_a_missing_driver_say_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.db' is not a file"):
        Sql(url=f"sqlite:///{tmp_path}/x.db", query="SELECT * FROM absent").schema()
    assert not (tmp_path / "x.db").exists()
    (tmp_path / "x.db").touch()
    with pytest.raises(DataError, match="no such table"):
        Sql(url=f"sqlite:///{tmp_path}/x.db", query="SELECT * FROM absent").schema()
    with pytest.raises(MissingExtra, match="install the driver"):
        Sql(url="oracle://host/db", query="SELECT 1").schema()


def test_a_pickled_extension_type_is_not_executed(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    payload = f"cbuiltins\nopen\n(V{marker}\nVw\ntR.".encode()
    field = pa.field("x", pa.int64(), metadata={
        "ARROW:extension:name": "ray.data.arrow_pickled_object", "ARROW:extension:metadata": payload,
    })  # fmt: skip
    pq.write_table(pa.table([pa.array([1])], schema=pa.schema([field])), tmp_path / "a.parquet")
    source = Parquet(path=str(tmp_path / "a.parquet"))
    source.schema()
    list(source.read(source.pieces()[0]))
    assert not marker.exists()


def test_json_lines_lack_keys_widen_numbers_and_name_a_broken_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"n": 1, "t": "a"}\n{"t": "b"}\n')
    (tmp_path / "b.jsonl").write_text('{"n": 1.5, "u": true}\n')
    source = Jsonl(path=str(tmp_path))
    assert source.schema() == pa.schema([("n", pa.float64()), ("t", pa.string()), ("u", pa.bool_())])
    rows = [row for piece in source.pieces() for table in source.read(piece) for row in table.to_pylist()]
    assert rows == [
        {"n": 1.0, "t": "a", "u": None},
        {"n": None, "t": "b", "u": None},
        {"n": 1.5, "t": None, "u": True},
    ]
    (tmp_path / "a.jsonl").write_text('{"n": 1, "t": "a"}\n{"n": \n')
    with pytest.raises(DataError, match=r"a\.jsonl: cannot be read as JSON lines: JSON parse error"):
        Jsonl(path=str(tmp_path)).schema()
    (tmp_path / "a.jsonl").write_text('{"n": "one"}\n')
    with pytest.raises(DataError, match="files disagree about a type"):
        Jsonl(path=str(tmp_path)).schema()
