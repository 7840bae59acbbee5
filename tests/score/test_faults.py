"""Whatever step of a batch run fails or is its last, the same command ends it as a plain loop would. Without Ray.

Each row of `POINTS` kills a process at one step, `every step` at all of them, one after another.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from raymlops.data import read_answers, read_scores
from raymlops.errors import Conflict
from raymlops.score.ledger import begin
from raymlops.score.piece import Scorer
from raymlops.score.plan import make_plan
from raymlops.score.run import _commit, run
from raymlops.spec import Spec
from tests.score.faults.here import NO_FAULT, in_this_process
from tests.score.faults.sitecustomize import Fault

LAST = 4  # files, and so pieces


@pytest.fixture(scope="module")
def process() -> Iterator[Callable[..., tuple[int, str]]]:
    """Score in a process of its own that a fault may kill; the value is its exit code and what it said."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.score.faults.here"], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin
    assert child.stdout
    stdin, stdout = child.stdin, child.stdout

    def score(home: Path, spec: str, fault: Fault = NO_FAULT) -> tuple[int, str]:
        stdin.write(json.dumps({"home": str(home), "spec": spec, "fault": asdict(fault)}) + "\n")
        stdin.flush()
        ended = json.loads(stdout.readline())
        return ended["code"], ended["said"]

    yield score
    child.kill()
    child.wait()


@pytest.fixture(autouse=True)
def _three_dead_rows(spec: Spec, break_rows: Callable[[int], None]) -> None:
    break_rows(3)


@pytest.fixture
def expected(plain_loop: Callable[[], pa.Table]) -> pa.Table:
    return plain_loop()


def _seen(home: Path) -> int:
    out = home / "scores" / "m"
    return int(pa.dataset.dataset(out, format="parquet").count_rows()) if out.exists() else 0


def _check(home: Path, expected: pa.Table) -> None:
    """Check that the run is whole: rows, order, accounting and dead letters."""
    (record,) = (home / "runs" / "m").iterdir()
    scores = read_scores(record)
    made = read_answers(scores)
    assert made.select(expected.column_names).equals(expected)
    assert _seen(home) == expected.num_rows
    assert (scores.rows_in, scores.scored, scores.dead, scores.filtered) == (400, 397, 3, 0)
    assert pq.read_table(record / "dead").column("row").to_pylist() == [0, 1, 2]
    hidden = [path.name for path in (home / "scores" / "m").iterdir() if path.name.startswith(".")]
    assert hidden == [], "nothing is left behind"


def _anew(home: Path) -> None:
    for name in ("engines", "runs", "scores"):
        shutil.rmtree(home / name, ignore_errors=True)


RECORD, SINK = r"/runs/m/\w{16}/", r"/scores/m/"
# name, what dies where, and whether the rows are seen by then
POINTS: dict[str, tuple[Fault, bool]] = {
    "before the plan": (Fault(step="open", path=RECORD + r"\.plan"), False),
    "half a plan": (Fault(step="write", path=RECORD + r"\.plan", how="kill half"), False),
    "after the plan": (Fault(step="link", path=RECORD + "plan.json", how="kill after"), False),
    "before the attempt is claimed": (Fault(step="link", path=r"/attempts/\d+"), False),
    "after the attempt is claimed": (Fault(step="link", path=r"/attempts/\d+", how="kill after"), False),
    "before the ledger is opened": (Fault(step="open", path="pieces-"), False),
    "before a ledger line": (Fault(step="write", path="pieces-", nth=2), False),
    "half a ledger line": (Fault(step="write", path="pieces-", nth=2, how="kill half"), False),
    "after a ledger line": (Fault(step="write", path="pieces-", nth=2, how="kill after"), False),
    "after the last ledger line": (Fault(step="write", path="pieces-", nth=LAST, how="kill after"), False),
    "after the folder of parts is made": (Fault(step="mkdir", path=SINK + r"\.\w{16}$", how="kill after"), False),
    "before a part is opened": (Fault(step="open", path=SINK + r".*part-00001"), False),
    "half a part": (Fault(step="write", path=SINK + r".*part-00001", how="kill half"), False),
    "before a part is fsynced": (Fault(step="fsync", path=SINK + r".*part-00001"), False),
    "between a part's fsync and its rename": (Fault(step="rename", path=SINK + r".*part-00001"), False),
    "after a part's rename": (Fault(step="rename", path=SINK + r".*part-00001", how="kill after"), False),
    "before the folder of parts is fsynced": (Fault(step="fsync", path=SINK + r"\.\w{16}$", nth=3), False),
    "half a part of dead letters": (Fault(step="write", path=r"/\.dead/", how="kill half"), False),
    "before the dead letters' rename": (Fault(step="rename", path=r"/\.dead/"), False),
    "after the dead letters' rename": (Fault(step="rename", path=r"/\.dead/", how="kill after"), False),
    "before the commit": (Fault(step="mkdir", path=SINK + r".*commit-"), False),
    "in the middle of linking": (Fault(step="link", path=SINK + r".*commit-", nth=3), False),
    "half the sink's manifest": (Fault(step="write", path=SINK + r".*_manifest", how="kill half"), False),
    "before the commit's rename": (Fault(step="rename", path=SINK + r"\w{16}$"), False),
    "after the commit's rename": (Fault(step="rename", path=SINK + r"\w{16}$", how="kill after"), True),
    "after the commit is fsynced": (Fault(step="fsync", path=SINK[:-1] + "$", nth=3, how="kill after"), True),
    "while the staged parts are removed": (Fault(step="unlink", path=SINK + r"\.\w{16}/", nth=2), True),
    "before the dead letters are committed": (Fault(step="rename", path=RECORD + "dead$"), True),
    "after the dead letters are committed": (Fault(step="rename", path=RECORD + "dead$", how="kill after"), True),
    "half the record's manifest": (Fault(step="write", path=RECORD + r"\.manifest", how="kill half"), True),
    "before the record's manifest": (Fault(step="link", path=RECORD + "manifest"), True),
    "after the record's manifest": (Fault(step="link", path=RECORD + "manifest", how="kill after"), True),
}


@pytest.mark.parametrize("name", POINTS)
def test_a_run_killed_at_a_named_point_goes_on_to_the_rows_of_a_plain_loop(
    name: str, process: Callable[..., tuple[int, str]], home: Path, spec_text: str, expected: pa.Table
) -> None:
    fault, shown = POINTS[name]
    assert process(home, spec_text, fault)[0] == -9
    assert _seen(home) == (expected.num_rows if shown else 0)
    assert process(home, spec_text)[0] == 0
    _check(home, expected)


def test_a_run_killed_at_every_step_goes_on_to_the_rows_of_a_plain_loop(
    process: Callable[..., tuple[int, str]], home: Path, spec_text: str, expected: pa.Table
) -> None:
    for nth in range(1, 1000):
        _anew(home)
        code, said = process(home, spec_text, Fault(path=str(home), nth=nth))
        assert _seen(home) in (0, expected.num_rows), nth
        if code == 0:
            break
        assert code == -9, said
        assert process(home, spec_text)[0] == 0, nth
        _check(home, expected)
    assert nth > 50


def test_a_run_killed_while_it_forgets_a_record_whose_rows_are_gone_is_done_again(
    process: Callable[..., tuple[int, str]], home: Path, spec_text: str, expected: pa.Table
) -> None:
    for nth in range(1, 1000):
        _anew(home)
        assert process(home, spec_text)[0] == 0
        (run_folder,) = (home / "scores" / "m").iterdir()
        shutil.rmtree(run_folder)
        code, said = process(home, spec_text, Fault(step="unlink", path=RECORD[:-1], nth=nth))
        if code == 0:
            break
        assert code == -9, said
        assert process(home, spec_text)[0] == 0, nth
        _check(home, expected)
    assert nth > 5


@pytest.fixture
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "raymlops.score.on_ray", in_this_process())


@pytest.mark.usefixtures("_here")
def test_an_orphan_that_still_writes_after_another_attempt_committed_changes_nothing(
    spec: Spec, home: Path, expected: pa.Table
) -> None:
    plan, pieces = make_plan(spec)
    orphan = Scorer(plan)
    with begin(home / "runs" / "m" / plan.run) as attempt:
        counts = [orphan.score(0, pieces[0])]
        run(spec)
        _check(home, expected)
        shown = _files(home / "scores" / "m" / plan.run)
        for index, piece in enumerate(pieces):
            counts.append(orphan.score(index, piece))
            attempt.add(counts[-1])
        with pytest.raises(Conflict, match="was taken over by attempt 2"):
            attempt.check()
        with pytest.raises(Conflict, match="was committed by another attempt"):
            _commit(plan, attempt, counts[1:], pieces)
    assert _files(home / "scores" / "m" / plan.run) == shown
    _check(home, expected)


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
