"""The laws of a sink: nothing is seen before the commit, everything once after it, whatever was tried twice."""

from collections.abc import Sequence

import pyarrow as pa

from raymlops.errors import RaymlopsError
from raymlops.plugins import build
from raymlops.protocols import Sink, Source
from raymlops.values import JsonValue, Part

__all__ = ["check_sink"]


def check_sink(
    sink: Sink, tables: Sequence[pa.Table], *, read_back: Callable[[str], pa.Table | None] | None = None
) -> None:
    """Raise AssertionError unless the sink keeps every law of the joint; `tables` are two or more of one schema.

    `read_back` gives the rows that a reader sees of a run, in order, None for none; without it the sink's own source
    is read.
    """
    assert isinstance(sink, Sink)
    rows = pa.concat_tables(tables).to_pylist()
    parts = [part for index, table in enumerate(tables) for part in sink.write([table], run="one", name=f"p{index}")]
    again = sink.write(iter([tables[0]]), run="one", name="p0")
    assert [*again] == [part for part in parts if part.name.startswith("p0")], "the same call makes the same parts"
    assert sum(part.rows for part in parts) == len(rows), "parts know their rows"
    sink.write([tables[1]], run="one", name="orphan")
    other = sink.write([tables[1]], run="two", name="p0")
    assert _seen(sink, "one") is None, "nothing is seen before the commit"
    assert sink.commit(run="one", parts=parts, manifest=b"{}") is True, "the first commit is told so"
    assert _seen(sink, "one") == rows, "every row once, in order, and no part that was not named"
    assert sink.commit(run="one", parts=parts, manifest=b"{}") is False, "the second commit is told so"
    sink.write([tables[0]], run="one", name="late")
    assert _seen(sink, "one") == rows, "what an orphan writes after the commit is not seen"
    assert _seen(sink, "two") is None, "runs do not disturb each other"
    absent = Part(name=f"absent-{other[0].name}", rows=1, size_bytes=1, sha256="")
    assert not _commits(sink, "two", [*other, absent]), "a part that is not there stops the commit"
    assert _seen(sink, "two") is None, "a commit that was stopped shows nothing"
    assert sink.commit(run="two", parts=other, manifest=b"{}"), "and can be done later"
    assert _seen(sink, "two") == tables[1].to_pylist(), "with the same rows"
    assert sink.commit(run="none", parts=[], manifest=b"{}"), "a run without a row can be committed"


def _commits(sink: Sink, run: str, parts: Sequence[Part]) -> bool:
    try:
        return sink.commit(run=run, parts=parts, manifest=b"{}")
    except RaymlopsError:
        return False


def _seen(sink: Sink, run: str) -> list[dict[str, JsonValue]] | None:
    source: Source = build("raymlops.data.sources", sink.source(run), where="sink")
    try:
        tables = [table for piece in source.pieces() for table in source.read(piece)]
        rows: list[dict[str, JsonValue]] = pa.concat_tables(tables).to_pylist()
        return rows
    except RaymlopsError:
        return None
