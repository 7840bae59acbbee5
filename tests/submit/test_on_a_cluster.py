"""The job layer on a real local cluster, with small scripts for stages."""

import os
import subprocess
import sys
import time
from ast import literal_eval
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymlops import cluster
from raymlops.cluster.processes import marked
from raymlops.errors import NotFound, StageFailed
from raymlops.spec import load
from raymlops.submit import Job, Ledger, Step, jobs, logs, show, stop, submit
from raymlops.submit.follow import Setting, run_step
from raymlops.submit.place import Place
from raymlops.submit.ray_jobs import job_server

pytestmark = pytest.mark.ray

SPEC = """
name: toy
data: {source: {parquet: rows.parquet}, label: y}
train: {trainers: {xgboost: {}}, seed: %d}
"""
STAGE = """
import os, sys, time
from pathlib import Path
from raymlops.submit import attempt
stage, how = sys.argv[1:]
with attempt() as fence:
    with Path("begun").open("a") as file:
        file.write(f"{stage} {fence.number}\\n")
    print("working on", stage, "in", Path.cwd(), flush=True)
    Path("prepared.parquet").write_bytes(Path("rows.parquet").read_bytes())
    if how == "killed":
        os.kill(os.getpid(), 9)
    time.sleep(float(how))
    fence.may_commit()
    Path(stage).write_text("made")
    fence.finish({"outputs": [str(Path(stage).absolute())]})
"""
CLIENT = """
import sys
from pathlib import Path
from raymlops.submit import submit
command = lambda stage, spec: [sys.executable, "stage.py", stage, sys.argv[1]]
print([step.state for step in submit(sys.argv[2:], Path("spec.yaml"), follow=True, command=command)])
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("submit")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("RAYMLOPS_HOME", str(folder / "home"))
        for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAYMLOPS_STEP"):
            patch.delenv(name, raising=False)
        (folder / "stage.py").write_text(STAGE)
        pq.write_table(pa.table({"x": [1.0, 2.0], "y": [0, 1]}), folder / "rows.parquet")
        made = cluster.start(cpus=2)
        try:
            yield folder
        finally:
            cluster.stop(made)
        assert marked(made.marker) == []


@pytest.fixture
def spec(place: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """Return a spec of this test alone, so that no step of another test is taken for its own."""
    path = place / "spec.yaml"
    path.write_text(SPEC % (hash(request.node.name) % 2**31))
    (place / "begun").write_text("")
    yield path
    for stage in ("train", "optimize"):
        (place / stage).unlink(missing_ok=True)


def running(how: str) -> Callable[[str, Path], list[str]]:
    return lambda stage, spec: [sys.executable, "stage.py", stage, how]


def client(how: str, *stages: str) -> "subprocess.Popen[str]":
    words = [sys.executable, "-c", CLIENT, how, *stages]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def begun() -> list[str]:
    return Path("begun").read_text().splitlines()


def wait_for(what: Callable[[], object], *, within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def newest(stage: str) -> Job:
    return next(job for job in jobs() if job.stage == stage)


def test_a_killed_stage_is_tried_once_more_and_then_its_cause_is_shown(spec: Path) -> None:
    with pytest.raises(StageFailed, match=r"train failed in attempt 2: killed by signal 9 \(SIGKILL\)"):
        submit(["train"], spec, follow=True, command=running("killed"))

    second, first = jobs()[:2]
    assert begun() == ["train 1", "train 2"]
    assert (second.state, first.state) == ("failed", "superseded")
    assert [show(job.id).cause for job in (first, second)] == ["killed by signal 9 (SIGKILL)"] * 2
    assert "working on train" in logs(second.id)


def test_of_two_submissions_at_once_one_runs_the_stages_and_the_other_waits_for_them(spec: Path) -> None:
    clients = [client("1.5", "train", "optimize") for _ in range(2)]
    told = [each.communicate(timeout=120) for each in clients]

    assert begun() == ["train 1", "optimize 1"]
    assert sorted(state for out, _ in told for state in literal_eval(out)) == ["attached", "attached", "done", "done"]
    assert "attached to attempt 1" in told[0][1] + told[1][1]


def test_a_finished_chain_is_skipped_also_if_it_made_its_own_data(spec: Path) -> None:
    Path("make.py").write_text("")
    spec.write_text(spec.read_text().replace("parquet: rows.parquet}", "parquet: prepared.parquet}, prepare: make.py"))
    Path("prepared.parquet").unlink(missing_ok=True)
    submit(["train", "optimize"], spec, follow=True, command=running("0"))

    out, _ = client("0", "train", "optimize").communicate(timeout=60)

    assert literal_eval(out) == ["skipped", "skipped"]
    assert [step.state for step in submit(["train", "optimize"], spec)] == ["skipped", "skipped"]
    assert begun() == ["train 1", "optimize 1"]


def test_a_job_elsewhere_runs_in_a_copy_of_this_folder_and_its_log_tells_its_result(spec: Path) -> None:
    there = cluster.attached()
    assert there is not None
    with job_server(there.dashboard) as server:
        setting = Setting(
            spec=load(spec),
            ledger=Ledger(Path("elsewhere.db")),
            server=server,
            place=Place(here=False, python=sys.executable, spec=spec),
        )
        done = run_step(setting, Step(identity="e" * 64, stage="train", name="toy"), running("0")("train", spec))

    assert done.state == "done"
    outputs = done.result["outputs"]
    assert isinstance(outputs, list)
    assert Path(str(outputs[0])).parent.is_relative_to(there.folder)


def test_a_stage_goes_on_when_its_submitter_is_killed_and_the_next_one_waits_for_it(spec: Path) -> None:
    first = client("4", "train")
    wait_for(begun)
    first.kill()
    first.communicate()

    assert [step.state for step in submit(["train"], spec, follow=True, command=running("4"))] == ["attached"]
    assert begun() == ["train 1"]


def test_a_stopped_stage_is_not_tried_again_until_it_is_submitted_again(spec: Path) -> None:
    follower = client("60", "train")
    wait_for(begun)
    job = stop(newest("train").id)
    _, err = follower.communicate(timeout=60)

    assert job.state == "failed"
    assert follower.returncode == 1
    assert "StageFailed: train failed in attempt 1: stopped by `raymlops jobs stop`" in err
    assert submit(["train"], spec, follow=True, command=running("0"))[0].attempt == 2


def test_an_attempt_that_ray_lost_cannot_commit_after_the_next_one_began(spec: Path) -> None:
    """Ray calls a job failed when its supervisor dies; the stage may live on, as it does here without its watcher."""
    follower = client("8", "train")
    wait_for(begun)
    first = newest("train").id
    there = cluster.attached()
    assert there is not None
    processes = {process: process.cmdline() for process in marked(there.marker)}
    stage = next(process for process, words in processes.items() if words[1:3] == ["stage.py", "train"])
    supervisor = stage.parent()
    assert supervisor is not None
    for process, words in processes.items():
        if f"kill -9 -{stage.pid}" in " ".join(words):
            process.kill()
    supervisor.kill()
    out, err = follower.communicate(timeout=120)

    assert literal_eval(out) == ["done"], err
    assert begun() == ["train 1", "train 2"]
    assert newest("train").attempt == 2
    wait_for(lambda: not stage.is_running() or stage.status() == "zombie")
    assert "attempt 1 of train was superseded by attempt 2; nothing was committed" in logs(first)


def test_without_follow_a_job_drives_the_chain_and_the_cause_is_found_afterwards(spec: Path) -> None:
    (driver,) = submit(["monitor"], spec, arguments=["--model", "other@7"])
    wait_for(lambda: show(driver.submission_id).ray_status in ("succeeded", "failed"), within_s=120)

    assert driver.state == "submitted"
    assert show(driver.submission_id).state == "failed"
    assert "model 'other'" in newest("monitor").cause
    assert newest("monitor").attempt == 1


def test_a_job_that_was_never_submitted_is_not_found(place: Path) -> None:
    with pytest.raises(NotFound, match="was never submitted"):
        show("train-000000000000-a1")
    assert os.environ["RAYMLOPS_HOME"] == str(place / "home")
