"""Delta tables as a source: one pinned version is read as its log says, or refused by name."""

import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from raymlops.data.sources.delta import Delta
from raymlops.errors import DataError, SpecError
from raymlops.testing.source_laws import check_source
from raymlops.values import Piece


@pytest.fixture
def table(tmp_path: Path, rows: pa.Table) -> Path:
    """A table of 1,000 rows in two versions."""
    write_deltalake(tmp_path / "t", rows.slice(0, 600))
    write_deltalake(tmp_path / "t", rows.slice(600), mode="append")
    return tmp_path / "t"


def _rows(source: Delta, pieces: list[Piece] | None = None, **given: Any) -> list[dict[str, object]]:
    listed = source.pieces() if pieces is None else pieces
    return [row for piece in listed for part in source.read(piece, **given) for row in part.to_pylist()]


def _log(table: Path, *actions: dict[str, Any]) -> None:
    """Write the next entry of the log by hand, as another writer would."""
    number = len(list((table / "_delta_log").glob("*.json")))
    lines = "\n".join(json.dumps(action) for action in actions)
    (table / "_delta_log" / f"{number:020}.json").write_text(lines + "\n")


def test_a_table_keeps_the_laws(table: Path, rows: pa.Table, monkeypatch: pytest.MonkeyPatch) -> None:
    held = DeltaTable(table).to_pyarrow_table()
    pq.write_table(rows.slice(0, 600), table / "groups.parquet", row_group_size=250)
    size = (table / "groups.parquet").stat().st_size
    _log(table, {"add": {"path": "groups.parquet", "size": size, "partitionValues": {}, "modificationTime": 1,
                         "dataChange": True}})  # fmt: skip
    monkeypatch.setattr("raymlops.data.row_groups._ROWS_OF_A_PIECE", 500)
    source = Delta(path=str(table))
    assert len(source.pieces()) == 4
    assert len(_rows(source)) == 1600
    assert sorted(map(str, _rows(Delta(path=str(table), version=1)))) == sorted(map(str, held.to_pylist()))
    ours = pa.concat_tables([part for piece in source.pieces() for part in source.read(piece)])
    check_source(source, ours)


def test_a_worker_reads_the_version_that_was_listed_whatever_is_committed_since(table: Path, rows: pa.Table) -> None:
    listed = Delta(path=str(table))
    pieces = list(listed.pieces())
    expected = _rows(listed)
    write_deltalake(table, rows.slice(0, 10), mode="overwrite")
    assert _rows(Delta(path=str(table)), pieces) == expected
    assert _rows(listed) == expected
    assert len(_rows(Delta(path=str(table)))) == 10
    assert Delta(path=str(table), version=1).pieces() == pieces


def test_another_version_is_another_input_even_with_the_same_files(table: Path) -> None:
    before = {piece.fingerprint for piece in Delta(path=str(table)).pieces()}
    _log(table, {"commitInfo": {"timestamp": 1, "operation": "WRITE"}})
    after = {piece.fingerprint for piece in Delta(path=str(table)).pieces()}
    assert not before & after


def test_partition_values_are_columns_with_their_types(tmp_path: Path) -> None:
    days = [date(2013, 1, 1), date(2013, 1, 2), None, date(2013, 1, 1)]
    given = pa.table({"id": [1, 2, 3, 4], "day": days, "place": ["a b", "c/d", "é%20", None], "n": [7, 7, None, 8]})
    write_deltalake(tmp_path, given, partition_by=["day", "place", "n"])
    source = Delta(path=str(tmp_path))
    assert source.schema() == given.schema
    assert sorted(_rows(source), key=lambda row: str(row["id"])) == given.to_pylist()
    only = _rows(source, columns=["place", "n"])
    assert sorted(map(str, only)) == sorted(map(str, given.select(["place", "n"]).to_pylist()))
    with pytest.raises(DataError, match="has no column nope; it has id, day, place, n"):
        _rows(source, columns=["id", "nope"])


def test_a_column_that_an_older_file_lacks_is_null_there_and_unknown_before(tmp_path: Path) -> None:
    write_deltalake(tmp_path, pa.table({"id": [1]}))
    write_deltalake(tmp_path, pa.table({"id": [2], "x": [0.5]}), mode="append", schema_mode="merge")
    found = sorted(_rows(Delta(path=str(tmp_path))), key=str)
    assert found == [{"id": 1, "x": None}, {"id": 2, "x": 0.5}]
    assert Delta(path=str(tmp_path)).schema() == pa.schema([("id", pa.int64()), ("x", pa.float64())])
    assert _rows(Delta(path=str(tmp_path), version=0)) == [{"id": 1}]


def test_a_file_whose_column_is_of_another_kind_than_the_table_is_refused(tmp_path: Path) -> None:
    write_deltalake(tmp_path, pa.table({"id": [1]}))
    pq.write_table(pa.table({"id": ["1"]}), tmp_path / "odd.parquet")
    size = (tmp_path / "odd.parquet").stat().st_size
    _log(tmp_path, {"add": {"path": "odd.parquet", "size": size, "partitionValues": {}, "modificationTime": 1,
                            "dataChange": True}})  # fmt: skip
    with pytest.raises(DataError, match=r"odd\.parquet@1: column 'id' is string, the table says int64"):
        _rows(Delta(path=str(tmp_path)))


def test_times_of_old_writers_are_read_in_the_unit_of_the_table(tmp_path: Path) -> None:
    stamps = pa.array([1_000_000, None], pa.timestamp("us", "UTC"))
    write_deltalake(tmp_path, pa.table({"at": stamps}))
    pq.write_table(pa.table({"at": stamps}), tmp_path / "int96.parquet", use_deprecated_int96_timestamps=True)
    size = (tmp_path / "int96.parquet").stat().st_size
    _log(tmp_path, {"add": {"path": "int96.parquet", "size": size, "partitionValues": {}, "modificationTime": 1,
                            "dataChange": True}})  # fmt: skip
    assert [row["at"] for row in _rows(Delta(path=str(tmp_path)))] == stamps.to_pylist() * 2


_PROTOCOL = {"minReaderVersion": 3, "minWriterVersion": 7}
_VECTOR = {"storageType": "u", "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k^", "offset": 1, "sizeInBytes": 36,
           "cardinality": 1}  # fmt: skip


def _with_deletion_vector(table: Path) -> None:
    file = os.path.basename(DeltaTable(table).file_uris()[0])
    size, feature = (table / file).stat().st_size, ["deletionVectors"]
    _log(
        table,
        {"protocol": _PROTOCOL | {"readerFeatures": feature, "writerFeatures": feature}},
        {"remove": {"path": file, "dataChange": True, "deletionTimestamp": 1, "size": size}},
        {"add": {"path": file, "size": size, "partitionValues": {}, "modificationTime": 1, "dataChange": True,
                 "stats": '{"numRecords":600}', "deletionVector": _VECTOR}},
    )  # fmt: skip


def _with_column_mapping(table: Path) -> None:
    first = (table / "_delta_log" / f"{0:020}.json").read_text().splitlines()
    metadata = next(json.loads(line) for line in first if "metaData" in line)
    metadata["metaData"]["configuration"] = {"delta.columnMapping.mode": "name"}
    text = metadata["metaData"]["schemaString"]
    schema = json.loads(text)
    for number, field in enumerate(schema["fields"], 1):
        named = {"delta.columnMapping.id": number, "delta.columnMapping.physicalName": field["name"]}
        field["metadata"] = named
    metadata["metaData"]["schemaString"] = json.dumps(schema)
    _log(table, {"protocol": {"minReaderVersion": 2, "minWriterVersion": 5}}, metadata)


def _with_type_widening(table: Path) -> None:
    feature = ["typeWidening"]
    _log(table, {"protocol": _PROTOCOL | {"readerFeatures": feature, "writerFeatures": feature}})


def _with_an_unknown_feature(table: Path) -> None:
    feature = ["fromTheFuture"]
    _log(table, {"protocol": _PROTOCOL | {"readerFeatures": feature, "writerFeatures": feature}})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_with_deletion_vector, "deletionVectors"),
        (_with_column_mapping, "columnMapping"),
        (_with_type_widening, "typeWidening"),
        (_with_an_unknown_feature, "fromTheFuture"),
    ],
)
def test_a_table_that_would_be_read_wrongly_is_refused_by_name(change: Any, named: str, table: Path) -> None:
    change(table)
    with pytest.raises(DataError, match=named):
        Delta(path=str(table)).pieces()
    assert len(_rows(Delta(path=str(table), version=1))) == 1000


def test_a_table_that_allows_deletion_vectors_but_has_none_is_read(table: Path) -> None:
    feature = ["deletionVectors"]
    _log(table, {"protocol": _PROTOCOL | {"readerFeatures": feature, "writerFeatures": feature}})
    assert len(_rows(Delta(path=str(table)))) == 1000


def test_a_file_that_vacuum_removed_says_so(table: Path, rows: pa.Table) -> None:
    old = Delta(path=str(table), version=1)
    listed = list(old.pieces())
    write_deltalake(table, rows.slice(0, 10), mode="overwrite")
    DeltaTable(table).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    with pytest.raises(DataError, match="the file is gone: VACUUM removes what only old versions name"):
        _rows(old, listed)
    again = Delta(path=str(table), version=1).pieces()
    assert [piece.rows for piece in again] == [None, None]
    with pytest.raises(DataError, match="VACUUM"):
        _rows(Delta(path=str(table), version=1), list(again))
    assert len(_rows(Delta(path=str(table)))) == 10


def test_a_file_that_is_not_what_was_committed_is_refused(table: Path) -> None:
    source = Delta(path=str(table))
    pieces = list(source.pieces())
    file = Path(pieces[0].source.rpartition("@")[0])
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(DataError, match=r"has \d+ bytes, the log says \d+"):
        _rows(source, pieces)


def test_what_is_no_table_and_what_is_no_version_is_told(tmp_path: Path, table: Path) -> None:
    with pytest.raises(DataError, match="is no Delta table"):
        Delta(path=str(tmp_path / "absent")).schema()
    with pytest.raises(SpecError, match="version: -1 given, at least 0 is allowed"):
        Delta(path=str(table), version=-1)
    with pytest.raises(SpecError, match="'hdfs://x/t' given, a path of files, s3://"):
        Delta(path="hdfs://x/t").schema()
    with pytest.raises(DataError, match="version 9 of the Delta table cannot be read"):
        Delta(path=str(table), version=9).schema()


def test_without_the_extra_it_is_named(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['deltalake'] = None\n"
        "from raymlops.data.sources.delta import Delta as Source\n"
        "from raymlops.data.sinks.delta import Delta as Sink\n"
        "from raymlops.errors import MissingExtra\n"
        "for call in (lambda: Source(path='t').schema(), lambda: Sink(path='t').write([], run='r', name='p'),\n"
        "             lambda: Sink(path='t').commit(run='r', parts=[], manifest=b'{}')):\n"
        "    try: call()\n"
        "    except MissingExtra as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.count("a Delta table needs `pip install raymlops[delta]`") == 3
