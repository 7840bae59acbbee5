"""A schedule on a real local cluster: each period once, whoever dies, sleeps or comes second."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from raymlops import cluster, registry
from raymlops.codec import dumps
from raymlops.contract import infer
from raymlops.submit import Ledger, Step, jobs, logs, stop
from raymlops.submit.timetable import Schedule
from raymlops.train.trainers.xgboost import Xgboost
from raymlops.values import Examples

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
DAYS = [TODAY - timedelta(days=back) for back in (2, 1)]
ROWS = 50
SPEC = """
name: m
data: {source: {parquet: rows}, label: y, key: [id], time: at}
train: {trainers: {xgboost: {}}}
score: {every: daily, sink: {parquet: {path: %s}}, %s}
"""
PASS = """
import sys
from datetime import datetime
from pathlib import Path
from raymlops.submit import keep_schedule
since = datetime.fromisoformat(sys.argv[2])
print([step.state for step in keep_schedule(Path(sys.argv[1]), since=since, once=True, lease_s=float(sys.argv[3]))])
"""


@pytest.fixture(scope="module", autouse=True)
def place() -> Iterator[Path]:
    """A home with a model, rows of two days and a cluster that stays up."""
    with tempfile.TemporaryDirectory(prefix="rml-") as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        patch.chdir(folder)
        patch.setenv("RAYMLOPS_HOME", str(folder / "home"))
        patch.setenv("RAY_AUTH_MODE", "token")
        for variable in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAYMLOPS_STEP"):
            patch.delenv(variable, raising=False)
        _prepare(folder)
        made = cluster.start(cpus=2)
        try:
            yield folder
        finally:
            cluster.stop(made)


def _prepare(folder: Path) -> None:
    (folder / "rows").mkdir()
    for index, day in enumerate(DAYS):
        x = np.random.default_rng(index).normal(size=ROWS)
        at = [day + timedelta(minutes=minute) for minute in range(ROWS)]
        table = pa.table({"id": np.arange(ROWS) + index * ROWS, "at": at, "x": x, "y": (x > 0).astype(int)})
        pq.write_table(table, folder / "rows" / f"{day:%Y-%m-%d}.parquet")
    examples = Examples(x=x.astype(np.float32)[:, None], y=(x > 0).astype(np.float64))
    fitted = Xgboost(rounds=3).fit(examples, None, categories=(0,), task="binary", classes=2, seed=0, threads=1)
    model = {"format": fitted.format, "task": "binary", "classes": 2, "features": 1, "categories": [0], "params": {}}
    contract = infer(table, features=["x"], label="y", key=["id"])
    files = {**fitted.files, "model.json": dumps(model), "contract.json": dumps(contract.to_json())}
    digest, path = registry.store_folder(files)
    registry.promote(str(registry.register("m", digest=digest, path=path, run_id=None, tags={})))


def written(name: str, score: str = 'on: "${period}"') -> Path:
    """Return a spec of a test alone, which is a schedule of its own with a sink of its own."""
    path = Path(f"{name}.yaml").absolute()
    path.write_text(SPEC % (path.with_suffix(""), score))
    return path


def one_pass(spec: Path, *, since: datetime, lease_s: float = 60) -> "subprocess.Popen[str]":
    words = [sys.executable, "-c", PASS, str(spec), since.isoformat(), str(lease_s)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    out, err = process.communicate(timeout=200)
    return process.returncode, out.strip(), err


def raymlops(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "raymlops", *words], capture_output=True, text=True, timeout=300)


def steps(spec: Path) -> list[Step]:
    return [step for step in Ledger().steps() if step.spec == str(spec)]


def schedule(spec: Path) -> Schedule:
    return next(one for one in Ledger().schedules() if one.spec == str(spec))


def seen(spec: Path) -> list[int]:
    """Return the ids that a reader of the sink's folder sees."""
    table = pa.dataset.dataset(spec.with_suffix(""), format="parquet").to_table(columns=["id"])
    return sorted(table.column("id").to_pylist())


def wait_for(what: Callable[[], object], *, within_s: float = 120) -> None:
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_pass_scores_each_period_that_came_due_in_order_and_the_next_pass_nothing() -> None:
    spec = written("due")
    first = raymlops("submit", "score", str(spec), "--once", "--since", f"{DAYS[0]:%Y-%m-%d}", "--json")
    again = raymlops("submit", "score", str(spec), "--once", "--json")

    assert first.returncode == 0, first.stderr
    made = json.loads(first.stdout)
    days = [day.isoformat() for day in (*DAYS, TODAY)]
    assert [step["result"]["on"] for step in made] == ["/".join(pair) for pair in pairwise(days)]
    assert [step["result"]["scored"] for step in made] == [ROWS] * 2
    assert seen(spec) == list(range(2 * ROWS))
    assert (again.returncode, json.loads(again.stdout)) == (0, [])
    assert f"next due {TODAY + timedelta(days=1):%Y-%m-%d} 00:00:00 UTC" in again.stderr


def test_a_pass_that_is_killed_within_a_period_is_followed_by_one_that_does_it_once() -> None:
    spec = written("killed")
    first = one_pass(spec, since=DAYS[0], lease_s=2)
    wait_for(lambda: steps(spec))
    first.kill()
    first.communicate()
    wait_for(lambda: time.time() > schedule(spec).state.expires)
    code, out, err = ended(one_pass(spec, since=DAYS[0], lease_s=2))

    assert (code, out) == (0, "['attached', 'done']"), err
    assert [step.state.attempt for step in steps(spec)] == [1, 1]
    assert seen(spec) == list(range(2 * ROWS))


def test_of_two_passes_at_once_one_works_and_the_other_says_who_has_the_lease() -> None:
    spec = written("two")
    first = one_pass(spec, since=DAYS[0])
    wait_for(lambda: steps(spec))
    second = raymlops("submit", "score", str(spec), "--once")
    code, out, err = ended(first)

    assert second.returncode == 1
    assert f":{first.pid} has the lease until" in second.stderr
    assert (code, out) == (0, "['done', 'done']"), err
    assert seen(spec) == list(range(2 * ROWS))


def test_a_holder_that_slept_through_its_lease_begins_nothing_when_it_wakes() -> None:
    spec = written("slept")
    first = one_pass(spec, since=DAYS[0], lease_s=2)
    wait_for(lambda: steps(spec))
    first.send_signal(signal.SIGSTOP)
    wait_for(lambda: time.time() > schedule(spec).state.expires)
    second = one_pass(spec, since=DAYS[0], lease_s=60)
    wait_for(lambda: schedule(spec).state.holder.endswith(f":{second.pid}"))
    first.send_signal(signal.SIGCONT)
    code, _, err = ended(first)

    assert ended(second)[:2] == (0, "['attached', 'done']")
    assert (code, f"taken over by {os.uname().nodename}:{second.pid}, which goes on" in err) == (1, True), err
    assert [step.state.attempt for step in steps(spec)] == [1, 1]
    assert seen(spec) == list(range(2 * ROWS))


def test_a_period_that_fails_is_recorded_with_its_cause_and_the_next_one_follows() -> None:
    Path("late").mkdir()
    Path(f"late/{DAYS[1]:%Y-%m-%d}.parquet").symlink_to(Path(f"rows/{DAYS[1]:%Y-%m-%d}.parquet").absolute())
    spec = written("failing", 'source: {parquet: "late/${period_start:%Y-%m-%d}.parquet"}')
    first = raymlops("submit", "score", str(spec), "--once", "--since", f"{DAYS[0]:%Y-%m-%d}")
    again = raymlops("submit", "score", str(spec), "--once")

    assert first.returncode == 1
    assert "no file found" in first.stderr
    assert f"--period {DAYS[0].isoformat()}/{DAYS[1].isoformat()}` does it again" in first.stderr
    assert [step.state.phase for step in steps(spec)] == ["failed", "done"]
    assert seen(spec) == list(range(ROWS, 2 * ROWS))
    assert again.returncode == 0


def test_a_schedule_is_kept_by_a_job_that_is_listed_with_its_next_due_time_until_it_is_stopped() -> None:
    spec = written("kept")
    submitted = [raymlops("submit", "score", str(spec), "--since", f"{DAYS[1]:%Y-%m-%d}", "--json") for _ in range(2)]
    made = [json.loads(each.stdout)[0] for each in submitted]
    wait_for(lambda: "next due" in logs(made[0]["submission_id"]))
    listed = raymlops("jobs", "list")
    kept = next(job for job in jobs() if job.id == made[0]["submission_id"])
    stop(kept.id)
    wait_for(lambda: schedule(spec).state.holder == "")
    wait_for(lambda: ("idle", kept.due) in [(job.state, job.due) for job in jobs() if job.id == schedule(spec).driver])

    assert [one["state"] for one in made] == ["submitted", "attached"]
    assert made[0]["submission_id"] == made[1]["submission_id"]
    assert f"m, next due {TODAY + timedelta(days=1):%Y-%m-%d} 00:00 UTC" in listed.stdout
    assert (kept.state, kept.due) == ("running", (TODAY + timedelta(days=1)).replace(tzinfo=UTC).timestamp())
    assert seen(spec) == list(range(ROWS, 2 * ROWS))
