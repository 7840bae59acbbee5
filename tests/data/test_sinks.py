"""Every kind of sink keeps the same laws, and a failure of any single step leaves nothing half seen."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset
import pytest

from raymlops.data.sinks.csv import Csv
from raymlops.data.sinks.parquet import Parquet
from raymlops.data.sources.parquet import Parquet as ParquetSource
from raymlops.errors import DataError, SpecError, StageFailed
from raymlops.protocols import Sink
from raymlops.testing.sink_laws import check_sink

KINDS: list[Callable[..., Sink]] = [Parquet, Csv]


@pytest.fixture
def tables() -> list[pa.Table]:
    return [
        pa.table({"id": range(start, start + 50), "p": [i / 7 for i in range(50)], "t": ["a", None] * 25})
        for start in (0, 50, 100)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_sink_keeps_the_laws(kind: Callable[..., Sink], tmp_path: Path, tables: list[pa.Table]) -> None:
    check_sink(kind(path=str(tmp_path / "out")), tables)


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_bounded_and_rows_keep_their_order(
    kind: Callable[..., Sink], tmp_path: Path, tables: list[pa.Table]
) -> None:
    parts = kind(path=str(tmp_path), rows_per_file=40).write(tables, run="r", name="p")
    assert [part.rows for part in parts] == [40, 40, 40, 30]
    check_sink(kind(path=str(tmp_path), rows_per_file=7), tables)


def test_a_reader_of_the_folder_sees_whole_runs_only(tmp_path: Path, tables: list[pa.Table]) -> None:
    sink = Parquet(path=str(tmp_path))
    parts = sink.write(tables, run="r", name="p")
    assert pa.dataset.dataset(tmp_path, format="parquet").count_rows() == 0
    sink.commit(run="r", parts=parts, manifest=b"{}")
    sink.write(tables, run="r", name="late")
    sink.write(tables, run="next", name="p")
    assert pa.dataset.dataset(tmp_path, format="parquet").count_rows() == 150
    assert sum(piece.rows or 0 for piece in ParquetSource(path=str(tmp_path)).pieces()) == 150


@pytest.mark.parametrize("kind", KINDS)
def test_whichever_step_fails_nothing_is_half_seen_and_a_second_try_ends_well(
    kind: Callable[..., Sink], tmp_path: Path, tables: list[pa.Table], failing_steps: Any
) -> None:
    def run(sink: Sink) -> bool:
        parts = [part for i, table in enumerate(tables) for part in sink.write([table], run="r", name=f"p{i}")]
        return sink.commit(run="r", parts=parts, manifest=b"{}")

    steps = 0
    for fail_at in range(1, 100):
        folder = tmp_path / str(fail_at)
        sink = kind(path=str(folder))
        with pytest.MonkeyPatch.context() as patch:
            failing = failing_steps(patch, fail_at)
            try:
                run(sink)
            except StageFailed as error:
                assert "No space left on device" in str(error)  # noqa: PT017 - most steps raise, the last ones may not
        if failing.calls < fail_at:
            break
        steps += 1
        names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
        assert names in (set(), {"r"})
        assert run(sink) is not (names == {"r"})
        check = {path.name for path in (folder / "r").iterdir()} - {"_manifest.json"}
        assert len(check) == 3
    assert steps >= 10


def test_wrong_options_are_named() -> None:
    with pytest.raises(SpecError, match="compression: 'rar' given, allowed are none"):
        Parquet(path="x", compression="rar")
    with pytest.raises(SpecError, match="rows_per_file: 0 given"):
        Parquet(path="x", rows_per_file=0)
    with pytest.raises(SpecError, match="delimiter: ';;' given"):
        Csv(path="x", delimiter=";;")


def test_a_flipped_bit_in_what_was_written_is_found_when_it_is_read(tmp_path: Path) -> None:
    sink = Parquet(path=str(tmp_path), compression="none")
    parts = sink.write([pa.table({"p": [i / 7 for i in range(10_000)]})], run="r", name="p")
    sink.commit(run="r", parts=parts, manifest=b"{}")
    (file,) = tmp_path.rglob("*.parquet")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    source = ParquetSource(path=str(tmp_path))
    with pytest.raises(DataError, match="CRC"):
        [*source.read(source.pieces()[0])]
