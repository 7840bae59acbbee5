"""A stream is scored once: whatever comes, breaks or runs beside, each message has one answer or dead letter."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymlops import registry
from raymlops.errors import Conflict
from raymlops.score.ledger import begin
from raymlops.score.piece import Plan, Scorer
from raymlops.score.plan import remember
from raymlops.score.run import _commit
from raymlops.score.stream import needed_runs
from raymlops.spec import Spec, parse
from raymlops.values import Piece, Version

_PROCESS = """
import sys
from pathlib import Path
from raymlops.score.ledger import begin
from raymlops.score.piece import Scorer
from raymlops.score.plan import remember
from raymlops.score.run import _commit
from raymlops.score.stream import needed_runs
from raymlops.spec import parse

def reached(what):
    print(what, flush=True)
    sys.stdin.readline()

for plan, pieces in needed_runs(parse(Path(sys.argv[1]).read_text())):
    reached("claimed")
    with begin(remember(plan, pieces)) as attempt:
        counts = [Scorer(plan).score(index, piece) for index, piece in enumerate(pieces)]
        reached("staged")
        _commit(plan, attempt, counts, pieces)
    reached("committed")
"""


@pytest.fixture
def messages(rows: pa.Table) -> list[bytes]:
    return [json.dumps(row).encode() for row in rows.select(["id", "x", "colour", "note"]).to_pylist()]


def _text(value: Any, *, most: int | None = None, dead: float = 0.01) -> str:
    kind, options = next(iter(value.items()))
    columns = {"id": "int64", "x": "double", "colour": "string", "note": "string"}
    bound = {} if most is None else {"max_rows": most} if kind == "kafka" else {"max_bytes": most * 60}
    source = json.dumps({kind: {**options, **bound, "columns": columns}})
    return f"""
name: m
data: {{source: {{parquet: nowhere}}, label: y, key: [id], exclude: [note]}}
train: {{trainers: {{xgboost: {{}}}}}}
score: {{keep: [note], max_dead_share: {dead}, source: {source}}}
"""


def _spec(feed: Any, *, most: int | None = None, dead: float = 0.01) -> Spec:
    return parse(_text(feed.value, most=most, dead=dead))


def _finish(plan: Plan, pieces: Sequence[Piece]) -> str:
    with begin(remember(plan, pieces)) as attempt:
        counts = [Scorer(plan).score(index, piece) for index, piece in enumerate(pieces)]
        attempt.check()
        _commit(plan, attempt, counts, pieces)
    return plan.run


def _score(spec: Spec) -> list[str]:
    return [_finish(plan, pieces) for plan, pieces in needed_runs(spec)]


def _manifest(home: Path, run: str) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((home / "runs" / "m" / run / "manifest.json").read_bytes())
    return made


def _ids(home: Path, runs: Sequence[str]) -> list[int]:
    tables = [pq.read_table(path) for run in runs for path in sorted((home / "scores" / "m" / run).glob("*.parquet"))]
    return [one for table in tables for one in table.column("id").to_pylist()]


def test_what_comes_is_scored_once_in_the_order_of_its_partition(
    feed: Any, version: Version, home: Path, messages: list[bytes]
) -> None:
    spec, runs = _spec(feed), []
    for begin_at, end in ((0, 100), (100, 101), (101, 300)):
        feed.append(messages[begin_at:end])
        runs += _score(spec)
        assert _score(spec) == [], "nothing is new"
    assert len(runs) == 3
    ids = _ids(home, runs)
    assert sorted(ids) == list(range(300))
    partitions = 4 if "kafka" in feed.value else 1
    for one in range(partitions):
        mine = [value for value in ids if value % partitions == one]
        assert mine == sorted(mine)


def test_a_run_that_was_left_open_is_finished_with_its_range_and_its_version(
    feed: Any, version: Version, home: Path, messages: list[bytes]
) -> None:
    feed.append(messages[:100])
    plan, pieces = next(needed_runs(_spec(feed)))
    remember(plan, pieces)
    [Scorer(plan).score(index, piece) for index, piece in enumerate(pieces)]
    feed.append(messages[100:150])
    files = {path.name: path.read_bytes() for path in version.path.iterdir()}
    digest, path = registry.store_folder({**files, "note.txt": b"another"})
    other = registry.promote(str(registry.register("m", digest=digest, path=path, run_id=None, tags={})))
    assert other.number != version.number
    runs = _score(_spec(feed))
    assert runs[0] == plan.run
    assert [_manifest(home, run)["number"] for run in runs] == [version.number, other.number]
    assert [_manifest(home, run)["rows_in"] for run in runs] == [100, 50]
    assert sorted(_ids(home, runs)) == list(range(150))


def test_a_backlog_is_worked_off_in_several_runs_of_bounded_size(
    feed: Any, version: Version, home: Path, messages: list[bytes]
) -> None:
    feed.append(messages[:200])
    runs = _score(_spec(feed, most=50))
    assert len(runs) >= 4
    assert max(_manifest(home, run)["rows_in"] for run in runs) <= 60
    assert sorted(_ids(home, runs)) == list(range(200))
    assert _score(_spec(feed, most=7)) == [], "another bound is no other stream"


def test_two_drivers_do_the_same_run_and_one_of_them_commits_it(
    feed: Any, version: Version, home: Path, messages: list[bytes]
) -> None:
    feed.append(messages[:100])
    one, other = needed_runs(_spec(feed, most=60)), needed_runs(_spec(feed, most=30))
    mine, pieces = next(one)
    feed.append(messages[100:120])
    yours, same = next(other)
    assert (mine.run, list(pieces)) == (yours.run, list(same))
    with begin(remember(mine, pieces)) as first:
        counts = [Scorer(mine).score(index, piece) for index, piece in enumerate(pieces)]
        _finish(yours, same)
        with pytest.raises(Conflict, match="was taken over"):
            first.check()
        with pytest.raises(Conflict, match="was committed by another attempt"):
            _commit(mine, first, counts, pieces)
    third, rest = next(other)
    stale, again = next(one)
    assert (third.run, list(rest)) == (stale.run, list(again)), "the range it would have taken next is another's"
    runs = [mine.run, _finish(third, rest), *(_finish(*needed) for needed in other), *_score(_spec(feed))]
    assert sorted(_ids(home, runs)) == list(range(120))


def test_a_message_that_is_no_row_is_a_dead_letter_with_its_place(
    feed: Any, version: Version, home: Path, messages: list[bytes]
) -> None:
    bad = [b"no json", b"[1]", b'{"id": 7, "x": "wide", "colour": "red"}', b'{"id": 8, "x": 1, "colour": "mauve"}']
    feed.append([*messages[:20], *bad, *messages[20:40]])
    runs = _score(_spec(feed, dead=0.5))
    assert sorted(_ids(home, runs)) == list(range(40))
    manifest = _manifest(home, runs[0])
    assert (manifest["rows_in"], manifest["scored"], manifest["dead"]) == (44, 40, 4)
    letters = pq.read_table(home / "runs" / "m" / runs[0] / "dead").to_pylist()
    told = {letter["value"].split(": ", 1)[1]: letter for letter in letters if letter["stage"] == "read"}
    assert [letter["rule"] for letter in letters if letter["stage"] == "contract"] == ["must be one of blue, red"]
    assert len(told) == 3
    assert 'column \'x\' must be double, \'wide\' given: {"id": 7, "x": "wide", "colour": "red"}' in told
    place = told["is not a JSON object: [1]"]
    # Messages go to the partitions in turn: the 22nd is the sixth of the second of four.
    if "kafka" in feed.value:
        assert (place["source"].rsplit("/", 1)[1], place["value"][:9]) == ("1", "offset 5:")
    else:
        at = sum(len(message) + 1 for message in [*messages[:20], bad[0]])
        assert (place["row"], place["value"].split(":")[0]) == (21, f"byte {at}")


def test_an_open_run_obeys_the_budget_of_the_spec_as_it_is_now(
    feed: Any, version: Version, messages: list[bytes]
) -> None:
    feed.append([*messages[:4], b"no json"])
    plan, _ = next(needed_runs(_spec(feed)))
    again, _ = next(needed_runs(_spec(feed, dead=0.9)))
    assert (plan.run, plan.spec.score.max_dead_share) == (again.run, 0.01)
    assert again.spec.score.max_dead_share == 0.9


def test_a_process_that_is_killed_loses_and_doubles_nothing(
    feed: Any, version: Version, home: Path, messages: list[bytes], tmp_path: Path
) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(_text(feed.value, most=40))
    for at, what in enumerate(("claimed", "staged", "committed")):
        feed.append(messages[at * 60 : at * 60 + 60])
        _killed(path, when=what)
    runs = _score(_spec(feed, most=40))
    done = {folder.name for folder in (home / "scores" / "m").iterdir() if not folder.name.startswith(".")}
    assert set(runs) < done, "a run was committed before it was killed"
    assert sorted(_ids(home, sorted(done))) == list(range(180))


def _killed(spec: Path, *, when: str) -> None:
    """Score in a process of its own, and kill it, as `kill -9` does, when it says that it has come so far."""
    process = subprocess.Popen(
        [sys.executable, "-c", _PROCESS, str(spec)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        for line in _words(process.stdout):
            if line == when:
                break
            process.stdin.write("\n")
            process.stdin.flush()
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert line == when


def _words(lines: Any) -> Iterator[str]:
    return (line.strip() for line in lines)
