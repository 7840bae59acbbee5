"""Delta tables as a sink: a run is one entry of the log, seen whole or not at all, read back whatever comes after."""

import json
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from threading import Barrier
from time import sleep
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from raymlops.data.sinks.delta import Delta
from raymlops.data.sources.delta import Delta as Source
from raymlops.errors import SpecError, StageFailed, Unavailable
from raymlops.plugins import build
from raymlops.testing.sink_laws import check_sink
from raymlops.testing.source_laws import check_source

LINE = pa.table({"id": range(50), "t": ["a", None] * 25})


@pytest.fixture
def tables() -> list[pa.Table]:
    return [
        pa.table({"id": range(start, start + 50), "p": [i / 7 for i in range(50)], "t": ["a", None] * 25})
        for start in (0, 50, 100)
    ]


def _read(sink: Delta, run: str) -> pa.Table:
    source = build("raymlops.data.sources", sink.source(run), where="sink")
    empty = [source.schema().empty_table()]
    return pa.concat_tables(empty + [part for piece in source.pieces() for part in source.read(piece)])


def _commit(sink: Delta, run: str, table: pa.Table = LINE) -> bool:
    return sink.commit(run=run, parts=sink.write([table], run=run, name="p"), manifest=b"{}")


@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_a_table_keeps_the_laws(mode: str, tmp_path: Path, tables: list[pa.Table]) -> None:
    check_sink(Delta(path=str(tmp_path / "table"), mode=mode, rows_per_file=40), tables)  # type: ignore[arg-type]


def test_a_run_is_one_entry_of_the_log_that_other_readers_understand(tmp_path: Path) -> None:
    sink = Delta(path=str(tmp_path / "t"), rows_per_file=20)
    parts = sink.write([LINE], run="r", name="p")
    assert [part.rows for part in parts] == [20, 20, 10]
    assert sink.commit(run="r", parts=parts, manifest=b'{"run": "r"}')
    table = DeltaTable(tmp_path / "t")
    assert table.version() == 0
    assert table.to_pyarrow_table().sort_by("id").equals(LINE)
    assert sorted(table.file_uris()) == sorted(str(tmp_path / "t" / "r" / part.name) for part in parts)
    assert json.loads(table.history(1)[0]["raymlops_manifest"]) == {"run": "r"}
    check_source(Source(path=str(tmp_path / "t"), run="r"), LINE)


def test_appended_runs_are_read_apart_and_the_table_holds_both(tmp_path: Path) -> None:
    sink = Delta(path=str(tmp_path / "t"))
    assert _commit(sink, "one")
    assert _commit(sink, "two", LINE.slice(7))
    assert _read(sink, "one").equals(LINE)
    assert _read(sink, "two").equals(LINE.slice(7))
    assert DeltaTable(tmp_path / "t").count() == 93


def test_an_overwriting_run_replaces_rows_and_columns_in_one_entry(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "t", pa.table({"old": [1.5]}))
    sink = Delta(path=str(tmp_path / "t"), mode="overwrite")
    assert _commit(sink, "one")
    now = DeltaTable(tmp_path / "t")
    assert now.version() == 1
    assert now.to_pyarrow_table().equals(LINE)
    assert _commit(sink, "two", LINE.slice(7))
    assert DeltaTable(tmp_path / "t").count() == 43
    assert _read(sink, "one").equals(LINE)
    assert Source(path=str(tmp_path / "t"), version=0).schema().names == ["old"]


def test_a_run_is_read_back_after_its_files_were_compacted_until_vacuum(tmp_path: Path) -> None:
    sink = Delta(path=str(tmp_path / "t"), rows_per_file=20)
    for run in ("one", "two"):
        assert _commit(sink, run)
    table = DeltaTable(tmp_path / "t")
    table.optimize.compact()
    assert not any("/one/" in uri for uri in DeltaTable(tmp_path / "t").file_uris())
    assert _read(sink, "one").equals(LINE)
    assert not _commit(sink, "one")
    DeltaTable(tmp_path / "t").vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    with pytest.raises(Exception, match="the file is gone: VACUUM"):
        _read(sink, "one")


def test_that_a_run_was_committed_outlasts_its_entry_of_the_log(tmp_path: Path) -> None:
    sink = Delta(path=str(tmp_path / "t"))
    for run in ("one", "two"):
        assert _commit(sink, run)
    DeltaTable(tmp_path / "t").create_checkpoint()
    for entry in (tmp_path / "t" / "_delta_log").glob("*.json"):
        entry.unlink()
    assert not _commit(sink, "one")
    assert _read(sink, "one").equals(LINE)


@pytest.mark.parametrize("attempt", range(4))
@pytest.mark.parametrize("mode", ["append", "overwrite"])
def test_many_runs_at_once_make_one_table_and_are_all_committed_once(mode: str, attempt: int, tmp_path: Path) -> None:
    sink = Delta(path=str(tmp_path / "t"), mode=mode)  # type: ignore[arg-type]
    runs = ["a", "b", "c", "d"] * 2
    written = {run: sink.write([LINE], run=run, name="p") for run in set(runs)}
    barrier = Barrier(len(runs))

    def commit(run: str) -> bool:
        barrier.wait()
        return sink.commit(run=run, parts=written[run], manifest=b"{}")

    with ThreadPoolExecutor(len(runs)) as pool:
        told = list(zip(runs, pool.map(commit, runs), strict=True))
    assert sorted(run for run, first in told if first) == ["a", "b", "c", "d"]
    entries = [path.read_text() for path in (tmp_path / "t" / "_delta_log").glob("*.json")]
    assert len(entries) == 4
    assert sum('"protocol":' in entry for entry in entries) == 1
    assert DeltaTable(tmp_path / "t").count() == (200 if mode == "append" else 50)
    assert all(_read(sink, run).equals(LINE) for run in set(runs))


def test_whichever_step_fails_the_table_is_the_old_or_the_new_one_and_a_second_try_ends_well(
    tmp_path: Path, failing_steps: Any
) -> None:
    for fail_at in range(1, 100):
        sink = Delta(path=str(tmp_path / str(fail_at)), rows_per_file=20)
        assert _commit(sink, "before")
        with pytest.MonkeyPatch.context() as patch:
            failing = failing_steps(patch, fail_at)
            try:
                _commit(sink, "r")
            except StageFailed as error:
                assert "No space left on device" in str(error)  # noqa: PT017 - the last steps may not raise
        if failing.calls < fail_at:
            break
        rows = DeltaTable(tmp_path / str(fail_at)).count()
        assert rows in (50, 100)
        assert _commit(sink, "r") is (rows == 50)
        assert DeltaTable(tmp_path / str(fail_at)).count() == 100
        assert _read(sink, "r").equals(LINE)
    assert fail_at > 8


def test_two_drivers_in_processes_of_their_own_end_with_one_entry(tmp_path: Path) -> None:
    sink = Delta(path=str(tmp_path / "t"))
    assert _commit(sink, "before")
    parts = sink.write([LINE], run="r", name="p")
    code = (
        "import sys\nfrom raymlops.data.sinks.delta import Delta\nfrom raymlops.values import Part\n"
        f"parts = {[asdict(part) for part in parts]}\n"
        f"sink = Delta(path={str(tmp_path / 't')!r})\nprint('ready', flush=True)\nsys.stdin.readline()\n"
        "print(sink.commit(run='r', parts=[Part(**part) for part in parts], manifest=b'{}'))\n"
    )
    drivers = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for driver in drivers:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "ready\n"
    for driver in drivers:
        assert driver.stdin is not None
        driver.stdin.write("go\n")
        driver.stdin.flush()
    said = sorted(driver.communicate(timeout=60)[0].strip() for driver in drivers)
    assert said == ["False", "False", "True"]
    assert DeltaTable(tmp_path / "t").count() == 100


def test_a_driver_that_dies_before_or_after_the_entry_leaves_the_old_table_or_the_new_one(tmp_path: Path) -> None:
    sink = Delta(path=str(tmp_path / "t"))
    assert _commit(sink, "before")
    parts = sink.write([LINE], run="r", name="p")
    sink.write([LINE.slice(1)], run="r", name="orphan")
    (tmp_path / "t" / "r" / ".p-000.part").write_bytes(b"cut sho")
    assert DeltaTable(tmp_path / "t").count() == 50
    assert sink.commit(run="r", parts=parts, manifest=b"{}")
    assert [path.name for path in (tmp_path / "t" / "r").iterdir()] == [parts[0].name]
    sink.write([LINE.slice(2)], run="r", name="p")  # as an orphan would after the commit
    assert not sink.commit(run="r", parts=parts, manifest=b"{}")
    assert DeltaTable(tmp_path / "t").count() == 100
    assert _read(sink, "r").equals(LINE)


def test_a_run_that_does_not_fit_the_table_changes_nothing(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "t", pa.table({"id": [1], "t": [1.5], "more": [True]}))
    sink = Delta(path=str(tmp_path / "t"))
    with pytest.raises(StageFailed, match="column 't' of run r is string, the table has double"):
        _commit(sink, "r")
    with pytest.raises(StageFailed, match="column 'x' of run r is int64, the table has none of this name"):
        _commit(sink, "r", pa.table({"x": [1]}))
    assert DeltaTable(tmp_path / "t").version() == 0
    assert _commit(sink, "narrow", pa.table({"id": [2]}))
    assert _read(sink, "narrow").to_pylist() == [{"id": 2, "t": None, "more": None}]


def test_a_run_whose_parts_differ_is_refused(tmp_path: Path) -> None:
    sink = Delta(path=str(tmp_path / "t"))
    parts = [*sink.write([LINE], run="r", name="a"), *sink.write([LINE.select(["id"])], run="r", name="b")]
    with pytest.raises(StageFailed, match=r"columns t differ from those of a-000.*nothing is shown"):
        sink.commit(run="r", parts=parts, manifest=b"{}")
    assert not (tmp_path / "t" / "_delta_log").exists()


def test_tables_that_ask_for_more_of_a_writer_are_refused(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "parted", LINE, partition_by=["t"])
    with pytest.raises(StageFailed, match="needs partition column t, which the delta sink does not keep"):
        _commit(Delta(path=str(tmp_path / "parted")), "r")
    write_deltalake(tmp_path / "checked", LINE)
    DeltaTable(tmp_path / "checked").alter.add_constraint({"some": "id >= 0"})
    with pytest.raises(StageFailed, match=r"needs (checkConstraints|writer version 3)"):
        _commit(Delta(path=str(tmp_path / "checked")), "r")
    write_deltalake(tmp_path / "kept", LINE, configuration={"delta.appendOnly": "true"})
    with pytest.raises(StageFailed, match="needs appendOnly"):
        _commit(Delta(path=str(tmp_path / "kept"), mode="overwrite"), "r")
    assert _commit(Delta(path=str(tmp_path / "kept")), "r")


def test_a_first_run_without_rows_says_that_a_table_needs_columns(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match="a table cannot be made without columns"):
        Delta(path=str(tmp_path / "t")).commit(run="r", parts=[], manifest=b"{}")


def test_types_that_delta_lacks_are_widened_or_named(tmp_path: Path) -> None:
    given = pa.table({
        "u": pa.array([255, None], pa.uint8()), "h": pa.array([0.5, None], pa.float16()),
        "d": pa.array(["a", None]).dictionary_encode(), "ns": pa.array([1_000, None], pa.timestamp("ns")),
        "z": pa.array([1, None], pa.timestamp("ms", "Europe/Paris")), "n": pa.nulls(2), "l": pa.array([[1], None]),
    })  # fmt: skip
    sink = Delta(path=str(tmp_path / "t"))
    assert _commit(sink, "r", given)
    read = _read(sink, "r")
    assert [str(kind) for kind in read.schema.types[:6]] == [
        "int16", "float", "string", "timestamp[us]", "timestamp[us, tz=UTC]", "string",
    ]  # fmt: skip
    assert read.drop_columns(["l"]).equals(given.drop_columns(["l"]).cast(read.drop_columns(["l"]).schema))
    assert read["l"].to_pylist() == given["l"].to_pylist()
    assert _commit(sink, "again", given)
    assert DeltaTable(tmp_path / "t").to_pyarrow_table().num_rows == 4
    with pytest.raises(StageFailed, match=r"no type of Delta holds column 'at' \(time64\[us\]\)"):
        sink.write([pa.table({"at": pa.array([1], pa.time64("us"))})], run="s", name="p")
    with pytest.raises(StageFailed, match="does not fit a type of Delta"):
        sink.write([pa.table({"u": pa.array([1 << 63], pa.uint64())})], run="s", name="p")


def test_wrong_options_are_named() -> None:
    with pytest.raises(SpecError, match="mode: 'merge' given, append or overwrite is allowed"):
        Delta(path="x", mode="merge")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match=r"rows_per_file: 0 given[^\n]*\npath: 'ftp://x' given"):
        Delta(path="ftp://x", rows_per_file=0)


def test_a_table_in_a_store_keeps_the_laws(s3: str, tables: list[pa.Table]) -> None:
    check_sink(Delta(path=f"{s3}/table/"), tables)
    check_source(Source(path=f"{s3}/table", run="four"), pa.concat_tables(tables))
    pieces = Source(path=f"{s3}/table").pieces()
    assert _commit(Delta(path=f"{s3}/table", mode="overwrite"), "six")
    assert sum(len(part) for piece in pieces for part in Source(path=f"{s3}/table").read(piece)) == 500
    assert sum(piece.rows or 0 for piece in Source(path=f"{s3}/table").pieces()) == 50


def test_a_store_that_does_not_answer_is_told(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Delta(path=f"{s3}/t").write([LINE], run="r", name="p")
    monkeypatch.setattr("raymlops.data.stores._RETRIES", {"max_retries": 1})
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    for ask in (
        lambda: Delta(path=f"{s3}/t").commit(run="r", parts=parts, manifest=b"{}"),
        lambda: Delta(path=f"{s3}/t").write([LINE], run="r", name="p"),
        lambda: Source(path=f"{s3}/t").schema(),
    ):
        with pytest.raises(Unavailable, match="rows/t") as told:
            ask()
        assert "not-so-secret" not in str(told.value)


def test_drivers_that_are_killed_at_any_time_leave_whole_runs_only(tmp_path: Path) -> None:
    """Whatever a killed driver left, the table holds all rows of its run or none, and the next driver ends it."""
    code = (
        "import sys, pyarrow as pa\nfrom raymlops.data.sinks.delta import Delta\n"
        f"line, sink = pa.table({{'id': range(50), 't': ['a', None] * 25}}), Delta(path={str(tmp_path / 't')!r})\n"
        "print('ready', flush=True)\n"
        "for number in range(1000):\n"
        "    run = f'{sys.argv[1]}-{number}'\n"
        "    parts = sink.write([line], run=run, name='p')\n"
        "    sink.commit(run=run, parts=parts, manifest=b'{}')\n"
    )
    sink, draw = Delta(path=str(tmp_path / "t")), random.Random(3)
    assert _commit(sink, "first")
    for attempt in range(5):
        driver = subprocess.Popen([sys.executable, "-c", code, str(attempt)], stdout=subprocess.PIPE, text=True)
        assert driver.stdout is not None
        assert driver.stdout.readline() == "ready\n"
        sleep(draw.uniform(0.2, 0.6))
        driver.kill()
        driver.wait()
        assert DeltaTable(tmp_path / "t").count() % 50 == 0
    begun = {path.name for path in (tmp_path / "t").iterdir() if path.name != "_delta_log"}
    told = {run: _commit(sink, run) for run in begun}
    assert DeltaTable(tmp_path / "t").count() == 50 * len(begun)
    assert sum(told.values()) <= 5, "only the run under way at each death was left to do"
    assert all(_read(sink, run).equals(LINE) for run in sorted(begun)[::9])
