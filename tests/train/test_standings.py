"""The table of a running sweep: the best first, the last ones after them, and only what differs."""

import dataclasses
import os
import pty
import re
import subprocess
import sys
import time

from raymlops.train.standings import standings
from raymlops.train.sweep import Result


def ended(index: int, value: float | None, **more: object) -> Result:
    made = Result(
        index=index, trainer="xgboost", options={"rounds": 40, "max_depth": index}, seed=0, params={},
        metrics={} if value is None else {"auc": value}, seconds=1.25, cause="ValueError: no" if value is None else "",
    )  # fmt: skip
    return dataclasses.replace(made, **more)  # type: ignore[arg-type]


def test_the_best_five_come_first_then_the_last_three_of_the_others() -> None:
    rows = standings([ended(i, i / 10) for i in range(9)] + [ended(9, None)], "auc")
    assert rows[0] == ["", "trial", "trainer", "auc", "seconds", "options"]
    assert [row[1] for row in rows[1:]] == ["8", "7", "6", "5", "4", "2", "3", "9"]
    assert rows[1] == ["1", "8", "xgboost", "0.8000", "1.2", "max_depth 8"]
    assert rows[-1][3:] == ["failed", "1.2", "ValueError: no"]


def test_a_short_trial_never_stands_above_a_whole_one() -> None:
    rows = standings([ended(0, 0.9, share=0.25), ended(1, 0.6)], "auc")
    assert [row[1] for row in rows[1:]] == ["1", "0"]
    assert rows[2][3] == "0.9000 of 0.25"


def test_a_trial_stands_once_however_many_rungs_it_has_had() -> None:
    rows = standings([ended(0, 0.9, share=0.25), ended(1, 0.5, share=0.25), ended(0, 0.8, rung=1)], "auc")
    assert [(row[1], row[3]) for row in rows[1:]] == [("0", "0.8000"), ("1", "0.5000 of 0.25")]


def test_before_the_first_trial_ended_there_are_only_the_columns() -> None:
    assert len(standings([], "auc")) == 1


_PROGRAM = """
import time
from raymlops.telemetry import progress
rows = [["trial", "auc", "options"]]
with progress("train", total=3, unit="trials", table=lambda: rows) as advance:
    for number in range(3):
        rows.append([str(number), "0.7", "a very long option " * 9])
        time.sleep(0.3)
        advance(1, f"trial {number}")
"""


def test_in_a_narrow_terminal_the_table_fits_and_its_last_state_stays() -> None:
    shown = screen([sys.executable, "-c", _PROGRAM], columns=60)
    lines = [line for line in shown[shown.rindex("trial  auc") :].splitlines() if line.strip()]
    assert all(len(line) <= 60 for line in lines), lines
    assert [line.split()[:2] for line in lines[1:4]] == [["0", "0.7"], ["1", "0.7"], ["2", "0.7"]]
    assert "3/3" in lines[4]


def screen(command: list[str], *, columns: int) -> str:
    """Return what a command writes to a terminal, without the codes that move and colour."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command, stderr=theirs, stdout=theirs, env={**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    )
    os.close(theirs)
    read, deadline = b"", time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            part = os.read(ours, 65_536)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        read += part
    assert process.wait(timeout=60) == 0
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", read.decode()).replace("\r", "\n")
