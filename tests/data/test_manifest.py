"""The manifest names what a source held, with its hash; equal data has the same one wherever it lies."""

import shutil
import sqlite3
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from raymlops.data.manifest import manifest
from raymlops.errors import DataError
from raymlops.plugins import build


def held_by(source: Any) -> dict[str, Any]:
    return manifest(build("raymlops.data.sources", source, where="data.source"))


def folder_of(place: Path) -> Path:
    for year in (2012, 2013):
        (place / f"year={year}").mkdir(parents=True)
        pq.write_table(pa.table({"x": [year, year + 1]}), place / f"year={year}" / "a.parquet")
    return place


def test_files_stand_with_the_hash_of_their_bytes_and_their_rows(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "one")
    found = held_by({"parquet": str(folder)})
    names = [(one["name"], one["rows"]) for one in found["held"]]
    assert names == [("year=2012/a.parquet", 2), ("year=2013/a.parquet", 2)]
    assert found["held"][0]["hash"] == sha256((folder / "year=2012" / "a.parquet").read_bytes()).hexdigest()
    moved = tmp_path / "elsewhere" / "two"
    shutil.copytree(folder, moved)
    assert held_by({"parquet": str(moved)}) == found


def test_a_changed_byte_is_another_manifest(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("x,y\n1,2\n")
    before = held_by({"csv": str(file)})
    file.write_text("x,y\n1,3\n")
    after = held_by({"csv": str(file)})
    assert before["held"][0]["name"] == after["held"][0]["name"] == "a.csv"
    assert before["held"][0]["hash"] != after["held"][0]["hash"]
    assert before["digest"] != after["digest"]


def test_a_query_stands_with_its_text_and_the_hash_of_its_rows(tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy")
    with sqlite3.connect(tmp_path / "rows.db") as database:
        database.execute("CREATE TABLE rows (x INTEGER NOT NULL)")
        database.executemany("INSERT INTO rows VALUES (?)", [(1,), (2,)])
    query = "SELECT x / 1 AS x FROM rows WHERE x / 1 > 0"
    asked = {"sql": {"url": f"sqlite:///{tmp_path / 'rows.db'}", "query": query}}
    found = held_by(asked)
    assert [(one["name"], one["rows"]) for one in found["held"]] == [(query, 2)]
    with sqlite3.connect(tmp_path / "rows.db") as database:
        database.execute("UPDATE rows SET x = 5 WHERE x = 2")
    assert held_by(asked)["held"][0]["hash"] != found["held"][0]["hash"]


def test_a_delta_table_stands_with_its_version(tmp_path: Path) -> None:
    deltalake = pytest.importorskip("deltalake")
    for value in (1, 2):
        deltalake.write_deltalake(str(tmp_path / "t"), pa.table({"x": [value]}), mode="append")
    found = held_by({"delta": {"path": str(tmp_path / "t")}})
    assert [one["name"].rpartition("@")[2] for one in found["held"]] == ["1", "1"]
    earlier = held_by({"delta": {"path": str(tmp_path / "t"), "version": 0}})
    assert [one["name"].rpartition("@")[2] for one in earlier["held"]] == ["0"]


def test_where_dvc_tracks_a_file_or_its_folder_its_hash_stands_beside(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "tracked")
    assert "dvc" not in held_by({"parquet": str(folder)})
    pointer = folder / "year=2013.dvc"
    pointer.write_text(yaml.safe_dump({"outs": [{"md5": "22a1a2931c8370d3aeedd7183606fd7f.dir", "path": "year=2013"}]}))
    assert held_by({"parquet": str(folder)})["dvc"] == {"year=2013.dvc": "22a1a2931c8370d3aeedd7183606fd7f.dir"}
    whole = tmp_path / "tracked.dvc"
    whole.write_text(yaml.safe_dump({"outs": [{"hash": "aa", "path": "tracked"}]}))
    assert held_by({"parquet": str(folder)})["dvc"] == {
        "../tracked.dvc": "aa",
        "year=2013.dvc": "22a1a2931c8370d3aeedd7183606fd7f.dir",
    }
    pointer.write_text("outs: 3")
    with pytest.raises(DataError, match=r"year=2013\.dvc: is no file of DVC"):
        held_by({"parquet": str(folder)})
