"""The laws of a stream: however often one asks, and whatever comes meanwhile, every row is in one cut, once."""

from collections.abc import Callable, Sequence

import pyarrow as pa

from raymlops.plugins import build
from raymlops.protocols import Source, Stream
from raymlops.testing.source_laws import check_source
from raymlops.values import JsonValue

__all__ = ["check_stream"]


def check_stream(value: JsonValue, append: Callable[[pa.Table], None], rows: pa.Table) -> None:
    """Raise AssertionError unless a stream keeps every law of the joint.

    `value` names the stream in a spec, `append` writes rows to its end; there are none at first. Rows differ.
    """
    first, second = rows.slice(0, rows.num_rows // 2), rows.slice(rows.num_rows // 2)
    append(first)
    cuts = _stream(value).since(None)
    assert _rows(cuts) == _sorted(first), "what is there is in the cuts, once"
    assert not _stream(value).since(cuts[-1]), "nothing new is no cut"
    append(second)
    assert _rows(cuts) == _sorted(first), "a cut does not grow"
    for cut in cuts:
        check_source(_source(cut), _read(cut))
    later = _stream(value).since(cuts[-1])
    assert _rows(later) == _sorted(second), "what came later is in the later cuts, once"
    assert _rows([cuts[0], *_stream(value).since(cuts[0])]) == _sorted(rows), "any cut can be the last"
    assert _rows(_stream(value).since(None)) == _sorted(rows), "who read nothing yet gets everything"
    assert _stream(value).identity() == _stream(later[-1]).identity(), "a cut is of its stream"


def _stream(value: JsonValue) -> Stream:
    made = build("raymlops.data.sources", value, where="a stream")
    assert isinstance(made, Stream)
    return made


def _source(value: JsonValue) -> Source:
    made = build("raymlops.data.sources", value, where="a cut")
    assert isinstance(made, Source)
    return made


def _read(cut: JsonValue) -> pa.Table:
    source = _source(cut)
    tables = [table for piece in source.pieces() for table in source.read(piece)]
    return pa.concat_tables([source.schema().empty_table(), *tables])


def _rows(cuts: Sequence[JsonValue]) -> list[str]:
    return sorted(line for cut in cuts for line in _sorted(_read(cut)))


def _sorted(rows: pa.Table) -> list[str]:
    return sorted(str(row) for row in rows.to_pylist())
