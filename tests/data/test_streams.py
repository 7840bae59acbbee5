"""Every kind of stream keeps the same laws: each row in one cut, once, whatever is written meanwhile."""

import json
from typing import Any

import pyarrow as pa
import pytest

from raymlops.plugins import build
from raymlops.testing.stream_laws import check_stream


def _lines(rows: pa.Table) -> list[bytes]:
    return [json.dumps(row).encode() for row in rows.to_pylist()]


@pytest.mark.parametrize("bound", [False, True], ids=["whole", "in several cuts"])
def test_a_stream_keeps_the_laws(feed: Any, rows: pa.Table, bound: bool) -> None:
    kind, options = next(iter(feed.value.items()))
    most = {"kafka": {"max_rows": 30}, "log": {"max_bytes": 1_000}}[kind] if bound else {}
    some = rows.slice(0, 200)
    check_stream({kind: {**options, **most}}, lambda table: feed.append(_lines(table)), some)
    cuts = build("raymlops.data.sources", {kind: {**options, **most}}, where="test").since(None)
    assert (len(cuts) > 5) == bound
