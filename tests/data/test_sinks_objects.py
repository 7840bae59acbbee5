"""Runs in an object store, against a real S3 over HTTP: parts lie below their run, one manifest shows them."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import obstore
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from obstore.store import ObjectStore, from_url

from raymlops.data.sinks.csv import Csv
from raymlops.data.sinks.parquet import Parquet
from raymlops.data.sources.parquet import Parquet as ParquetSource
from raymlops.errors import DataError, SpecError, StageFailed, Unavailable
from raymlops.testing.sink_laws import check_sink

ROOT = "s3://rows/scores"
LINE = pa.table({"id": range(50), "t": ["a", None] * 25})


@pytest.fixture
def store(s3: str) -> ObjectStore:
    return from_url(f"{s3}/scores", client_options={"allow_http": True})


def _names(store: ObjectStore, run: str) -> set[str]:
    return {one["path"].split("/")[-1] for chunk in obstore.list(store, run) for one in chunk}


def _read_back(store: ObjectStore, run: str) -> pa.Table | None:
    """Read as a reader does that goes through the manifest: a listing, once the manifest is there."""
    if "_manifest.json" not in _names(store, run):
        return None
    files = sorted(name for name in _names(store, run) if not name.startswith("_"))
    tables = [pq.read_table(pa.BufferReader(bytes(obstore.get(store, f"{run}/{name}").bytes()))) for name in files]
    return pa.concat_tables(tables) if tables else None


def test_a_prefix_of_a_store_keeps_the_laws(store: ObjectStore) -> None:
    tables = [LINE, LINE.set_column(0, "id", pa.array(range(50, 100))), LINE.slice(7)]
    check_sink(Parquet(path=ROOT, rows_per_file=20), tables)
    assert Parquet(path=ROOT).source("one") == {"parquet": f"{ROOT}/one/_manifest.json"}
    assert _names(store, "one") > {"_manifest.json", "_parts.json"}


def test_what_an_orphan_puts_beside_a_run_after_its_commit_is_not_read(store: ObjectStore) -> None:
    sink = Parquet(path=ROOT)
    parts = sink.write([LINE], run="r", name="p")
    assert sink.commit(run="r", parts=parts, manifest=b"{}")
    obstore.put(store, "r/p-001.parquet", bytes(obstore.get(store, f"r/{parts[0].name}").bytes()))
    assert len(ParquetSource(path=f"{ROOT}/r/").pieces()) == 2
    assert [piece.rows for piece in ParquetSource(path=f"{ROOT}/r/_manifest.json").pieces()] == [50]


def test_a_listing_after_the_commit_is_exact(store: ObjectStore) -> None:
    sink = Parquet(path=ROOT)
    parts = sink.write([LINE], run="r", name="p")
    sink.write([LINE.slice(1)], run="r", name="p")
    sink.write([LINE], run="r", name="orphan")
    assert len(_names(store, "r")) == 3
    assert sink.commit(run="r", parts=parts, manifest=b'{"a": 1}')
    assert _names(store, "r") == {parts[0].name, "_parts.json", "_manifest.json"}
    assert orjson.loads(bytes(obstore.get(store, "r/_manifest.json").bytes())) == {"a": 1}
    late = sink.write([LINE.slice(2)], run="r", name="late")
    assert late[0].rows == 48
    assert _names(store, "r") == {parts[0].name, "_parts.json", "_manifest.json"}


@pytest.mark.parametrize("run", ["a", "b", "c"])
def test_of_drivers_at_once_with_other_bytes_one_wins_and_its_parts_stay(store: ObjectStore, run: str) -> None:
    sinks = [Parquet(path=ROOT, compression=name) for name in ("none", "snappy", "zstd", "gzip")]
    written = [sink.write([LINE], run=run, name="p") for sink in sinks]
    barrier = Barrier(len(sinks))

    def commit(index: int) -> bool:
        barrier.wait()
        return sinks[index].commit(run=run, parts=written[index], manifest=b"{}")

    with ThreadPoolExecutor(len(sinks)) as pool:
        assert sorted(pool.map(commit, range(len(sinks)))) == [False, False, False, True]
    read = _read_back(store, run)
    assert read is not None
    assert read.equals(LINE)


def test_a_commit_killed_between_its_steps_is_ended_by_the_next(store: ObjectStore) -> None:
    sink = Parquet(path=ROOT)
    parts = sink.write([LINE], run="r", name="p")
    assert sink.commit(run="r", parts=parts, manifest=b"{}")
    obstore.delete(store, "r/_manifest.json")  # as if the first driver had died before its last step
    obstore.put(store, "r/orphan.parquet", b"rest")
    assert _read_back(store, "r") is None
    with pytest.raises(DataError, match="no file found"):
        ParquetSource(path=f"{ROOT}/r/_manifest.json").pieces()
    assert sink.commit(run="r", parts=parts, manifest=b"{}")
    assert _names(store, "r") == {parts[0].name, "_parts.json", "_manifest.json"}


def test_a_store_that_is_gone_or_refuses_is_told(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StageFailed, match=r"s3://nobucket/x: p cannot be written"):
        Parquet(path="s3://nobucket/x").write([LINE], run="r", name="p")
    monkeypatch.setattr("raymlops.data.stores._RETRIES", {"max_retries": 1})
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match="p cannot be written") as told:
        Parquet(path=ROOT).write([LINE], run="r", name="p")
    assert "not-so-secret" not in str(told.value)


def test_paths_that_no_sink_takes_are_named() -> None:
    with pytest.raises(SpecError, match="path: 'ftp://x' given, a folder, s3://BUCKET/PATH or gs://BUCKET/PATH"):
        Parquet(path="ftp://x")
    with pytest.raises(SpecError, match="the parquet sink writes to object stores"):
        Csv(path="s3://x/y")
