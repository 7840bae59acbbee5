"""Sources in an object store, against a real S3 over HTTP: the same laws as in folders, and refused when changed."""

import gzip
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import obstore
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from obstore.store import ObjectStore, from_url

from raymlops.data import ScoreManifest, prepare, read_answers
from raymlops.data.files import opened
from raymlops.data.sinks.parquet import Parquet as ParquetSink
from raymlops.data.sources.csv import Csv
from raymlops.data.sources.jsonl import Jsonl
from raymlops.data.sources.parquet import Parquet
from raymlops.errors import DataError, SpecError, Unavailable
from raymlops.protocols import Source
from raymlops.spec import parse
from raymlops.testing.source_laws import check_source


@pytest.fixture
def store(s3: str) -> ObjectStore:
    return from_url(s3, client_options={"allow_http": True})


def _parquet(rows: pa.Table, **options: object) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, **options)
    return bytes(sink.getvalue().to_pybytes())


def _csv(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pa_csv.write_csv(rows, sink)
    return bytes(sink.getvalue().to_pybytes())


def _rows(source: Source) -> list[object]:
    return [row for piece in source.pieces() for part in source.read(piece) for row in part.to_pylist()]


def test_parquet_below_a_prefix_keeps_the_laws(store: ObjectStore, rows: pa.Table) -> None:
    obstore.put(store, "in/a.parquet", _parquet(rows.slice(0, 600), row_group_size=250))
    obstore.put(store, "in/b.parquet", _parquet(rows.slice(600)))
    for name in ("in/_SUCCESS", "in/_manifest.json", "in/.a.parquet.crc", "in/_temporary/c.parquet", "in/x.txt"):
        obstore.put(store, name, b"no data")
    obstore.put(store, "in2/c.parquet", b"of another prefix")
    check_source(Parquet(path="s3://rows/in/"), rows)
    check_source(Parquet(path="s3://rows/in/*.parquet"), rows)
    check_source(Parquet(path="s3://rows/in/b.parquet"), rows.slice(600))
    check_source(Parquet(path="s3://rows/i?/**/[ab].parquet"), rows)


def test_text_in_a_store_keeps_the_laws_also_compressed(store: ObjectStore, rows: pa.Table) -> None:
    obstore.put(store, "in/a.csv", _csv(rows.slice(0, 600)))
    obstore.put(store, "in/b.csv.gz", gzip.compress(_csv(rows.slice(600))))
    check_source(Csv(path="s3://rows/in/"), rows)
    obstore.put(store, "in/a.jsonl.gz", gzip.compress(b'{"a": 1}\n{"a": null}\n'))
    obstore.put(store, "in/b.jsonl", b'{"a": 3}\n')
    check_source(Jsonl(path="s3://rows/in/"), pa.table({"a": [1, None, 3]}))


def test_folders_in_a_store_are_columns(store: ObjectStore) -> None:
    for year in (2012, 2013):
        obstore.put(store, f"in/year={year}/x.parquet", _parquet(pa.table({"a": [year * 10]})))
    check_source(Parquet(path="s3://rows/in/"), pa.table({"a": [20120, 20130], "year": [2012, 2013]}))
    check_source(Parquet(path="s3://rows/in/year=*/x.parquet"), pa.table({"a": [20120, 20130], "year": [2012, 2013]}))


def test_names_with_odd_letters_are_read(s3: str, s3_server: str) -> None:
    names = ["place=New%20York/a b.parquet", "place=é+ü/x&y.parquet", "place=50%/x.parquet"]
    for index, name in enumerate(names):
        data = _parquet(pa.table({"a": [index]}))
        httpx.put(f"{s3_server}/rows/in/{quote(name)}", content=data).raise_for_status()
    found = sorted(map(str, _rows(Parquet(path=f"{s3}/in/"))))
    assert found == [str({"a": i, "place": place}) for i, place in enumerate(["New York", "é+ü", "50%"])]
    assert _rows(Parquet(path=f"{s3}/in/{names[0]}")) == [{"a": 0}]
    assert _rows(Parquet(path=f"{s3}/in/place=New%20*/a b.parquet")) == [{"a": 0, "place": "New York"}]


def test_an_object_that_is_put_again_is_refused_before_and_while_it_is_read(store: ObjectStore) -> None:
    lines = b"a\n" + b"1\n" * 6_000_000
    obstore.put(store, "a.csv", lines)
    source = Csv(path="s3://rows/a.csv")
    (piece,) = source.pieces()
    reading: Iterator[pa.Table] = source.read(piece)
    next(reading)
    obstore.put(store, "a.csv", lines.replace(b"1", b"2"))
    with pytest.raises(DataError, match=r"s3://rows/a\.csv: changed while it was being read"):
        list(reading)
    with pytest.raises(DataError, match="changed while it was being read"):
        list(source.read(piece))
    assert source.pieces()[0].fingerprint != piece.fingerprint


def test_an_open_object_never_gives_bytes_of_another(store: ObjectStore) -> None:
    obstore.put(store, "a", b"old")
    with opened("s3://rows/a") as file:
        assert file.read(1) == b"o"
        obstore.put(store, "a", b"new")
        with pytest.raises(DataError, match="s3://rows/a: changed while it was being read"):
            file.read(1)


def test_an_object_that_vanishes_is_named(store: ObjectStore, rows: pa.Table) -> None:
    obstore.put(store, "a.parquet", _parquet(rows))
    source = Parquet(path="s3://rows/a.parquet")
    (piece,) = source.pieces()
    obstore.delete(store, "a.parquet")
    with pytest.raises(DataError, match=r"s3://rows/a\.parquet: cannot be read"):
        list(source.read(piece))


def test_what_is_not_there_and_who_does_not_answer_is_told(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"no file found .* a key, a glob or a prefix that ends in /"):
        Parquet(path=f"{s3}/none/").schema()
    with pytest.raises(DataError, match=r"s3://rows/none\.csv: cannot be read"):
        Csv(path=f"{s3}/none.csv").schema()
    with pytest.raises(Unavailable, match=r"s3://nobucket/x/: cannot be read: .* 404 Not Found"):
        Parquet(path="s3://nobucket/x/").schema()
    monkeypatch.setattr("raymlops.data.stores._RETRIES", {"max_retries": 1})
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match="cannot be read") as told:
        Parquet(path=f"{s3}/none/").schema()
    assert "not-so-secret" not in str(told.value)


def test_the_answers_of_a_run_in_a_store_are_read_through_its_manifest(s3: str) -> None:
    sink, answers = ParquetSink(path=f"{s3}/scores", rows_per_file=20), pa.table({"id": range(50)})
    scores = ScoreManifest(
        run="r", name="m", number=1, digest="d", on=None, rows_in=50, scored=50, dead=0, filtered=0, quarantined=(),
        keep=(), input="none", source=sink.source("r"), finished="2026-01-01T00:00:00Z",
    )  # fmt: skip
    parts = sink.write([answers], run="r", name="part-00000")
    with pytest.raises(DataError, match="no file found"):
        read_answers(scores)
    assert sink.commit(run="r", parts=parts, manifest=b"{}")
    assert read_answers(scores).equals(answers)
    assert read_answers(scores, columns=["id"]).equals(answers)


def test_a_path_in_a_store_is_prepared_by_nobody() -> None:
    spec = parse(
        "name: m\ndata: {source: {parquet: s3://rows/x/}, prepare: make.py, label: y, task: binary,"
        " windows: {train: 0.8, valid: 0.2}}\ntrain: {trainers: {xgboost: {}}}\n"
    )
    with pytest.raises(SpecError, match=r"data\.prepare: the source's path 's3://rows/x/' is in an object store"):
        prepare(spec)
