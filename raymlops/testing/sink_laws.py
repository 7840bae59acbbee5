"""The laws of a sink: nothing is seen before the commit, everything once after it, whatever was tried twice."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pyarrow as pa

from raymlops.errors import RaymlopsError, StageFailed
from raymlops.plugins import build
from raymlops.protocols import Sink, Source
from raymlops.values import Part

__all__ = ["check_sink"]

Reader = Callable[[str], pa.Table | None]


def check_sink(sink: Sink, tables: Sequence[pa.Table], *, read_back: Reader | None = None) -> None:
    """Raise AssertionError unless the sink keeps every law of the joint; `tables` are two or more of one schema.

    `read_back` returns the rows that a reader sees of a run, in the order of the input, None or no row where it sees
    none; left out, they are read through the sink's own source. The sink must not hold runs `one` to `five` yet.
    """
    assert isinstance(sink, Sink)
    seen = _reader(sink, read_back)
    rows = pa.concat_tables(tables).to_pylist()
    parts = [part for index, table in enumerate(tables) for part in sink.write([table], run="one", name=f"p{index}")]
    again = [part for index, table in enumerate(tables) for part in sink.write([table], run="one", name=f"p{index}")]
    assert again == parts, "the same call makes the same parts"
    assert sum(part.rows for part in parts) == len(rows), "parts know their rows"
    sink.write([tables[1]], run="one", name="orphan")
    other = sink.write([tables[1]], run="two", name="p0")
    assert seen("one") == [], "nothing is seen before the commit"
    assert sink.commit(run="one", parts=parts, manifest=b"{}") is True, "the first commit is told so"
    assert seen("one") == rows, "every row once, in order, and no part that was not named"
    assert sink.commit(run="one", parts=parts, manifest=b"{}") is False, "the second commit is told so"
    assert seen("one") == rows, "a second commit changes nothing"
    sink.write([tables[0]], run="one", name="p0")
    assert seen("one") == rows, "what an orphan writes after the commit is not seen"
    assert seen("two") == [], "runs do not disturb each other"
    _check_missing_parts(sink, other, seen)
    assert sink.commit(run="two", parts=other, manifest=b"{}") is True, "and can be done later"
    assert seen("two") == tables[1].to_pylist(), "with the same rows"
    assert seen("one") == rows, "a later run leaves an earlier one as it is"
    _check_no_rows(sink, tables[0], seen)
    _check_drivers_at_once(sink, tables, seen)


def _check_missing_parts(sink: Sink, parts: Sequence[Part], seen: Callable[[str], object]) -> None:
    absent = replace(parts[0], name=f"{parts[0].name}-absent")
    grown = replace(parts[0], size_bytes=parts[0].size_bytes + 1)
    for wrong in ([*parts, absent], [grown, *parts[1:]]):
        try:
            sink.commit(run="two", parts=wrong, manifest=b"{}")
        except StageFailed:
            assert seen("two") == [], "a commit that was stopped shows nothing"
        else:
            raise AssertionError("a part that is not there, or is not what was written, stops the commit")


def _check_no_rows(sink: Sink, table: pa.Table, seen: Callable[[str], object]) -> None:
    assert list(sink.write([], run="three", name="p0")) == [], "no table makes no part"
    assert sum(part.rows for part in sink.write([table.slice(0, 0)], run="three", name="p1")) == 0
    assert sink.commit(run="three", parts=[], manifest=b"{}") is True, "a run without a row can be committed"
    assert sink.commit(run="three", parts=[], manifest=b"{}") is False, "once"
    assert seen("three") == [], "and shows no row"


def _check_drivers_at_once(sink: Sink, tables: Sequence[pa.Table], seen: Callable[[str], object]) -> None:
    for run in ("four", "five"):
        parts = [p for index, table in enumerate(tables) for p in sink.write([table], run=run, name=f"p{index}")]
        with ThreadPoolExecutor(2) as pool:
            first = [pool.submit(sink.commit, run=run, parts=parts, manifest=b"{}") for _ in range(2)]
        assert sorted(done.result() for done in first) == [False, True], "of two drivers at once one is first"
        assert seen(run) == pa.concat_tables(tables).to_pylist(), "and every row is there once"


def _reader(sink: Sink, read_back: Reader | None) -> Callable[[str], list[object]]:
    def seen(run: str) -> list[object]:
        table = read_back(run) if read_back else _read(sink, run)
        return [] if table is None else list(table.to_pylist())

    return seen


def _read(sink: Sink, run: str) -> pa.Table | None:
    source: Source = build("raymlops.data.sources", sink.source(run), where="sink")
    try:
        return pa.concat_tables([table for piece in source.pieces() for table in source.read(piece)])
    except (RaymlopsError, pa.ArrowInvalid):
        return None
