"""Progress in plain lines tells how far, how fast, how long still and what went wrong."""

import io
from collections.abc import Iterator

import pytest

from raymlops.telemetry import progress


def test_plain_lines_tell_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr("sys.stderr", shown)
    times: Iterator[float] = iter([0.0, 0.0, 2.0, 6.0, 10.0])
    with progress("score", total=1000, unit="rows", clock=lambda: next(times)) as advance:
        advance(100, "")
        advance(500, "3 dead letters")
        advance(400, "3 dead letters")
    assert shown.getvalue().splitlines() == [
        "score: 600 of 1,000 rows, 100 rows/s, 4 s left, 3 dead letters",
        "score: 1,000 of 1,000 rows, 100 rows/s, 3 dead letters",
    ]
