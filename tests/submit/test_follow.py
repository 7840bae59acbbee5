"""One step brought to its end against a job server that answers as Ray does, without Ray."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from raymlops.errors import StageFailed
from raymlops.spec import Spec
from raymlops.submit.decide import Asked, Finished, Limits, Started
from raymlops.submit.fence import FAILED, RESULT
from raymlops.submit.follow import Setting, run_step
from raymlops.submit.ledger import Ledger, Step
from raymlops.submit.outputs import outputs_exist
from raymlops.submit.place import Place
from raymlops.submit.ray_jobs import RayJobs

TRAIN = Step(identity="a" * 64, stage="train", name="toy")
FIRST, SECOND = "train-aaaaaaaaaaaa-a1", "train-aaaaaaaaaaaa-a2"


@dataclass(slots=True)
class Ray:
    """Jobs of a pretended Ray; `run` is called when one is submitted and says how it ends."""

    run: Callable[[str], tuple[str, int | None, str]]
    jobs: dict[str, dict[str, object]] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        room, *parts = request.url.path.strip("/").split("/")[1:]
        if room == "packages":
            return httpx.Response(200)
        if request.method == "POST" and not parts:
            return self.submitted(json.loads(request.content))
        if not parts:
            return httpx.Response(200, json=list(self.jobs.values()))
        if parts[0] not in self.jobs:
            return httpx.Response(404, text=f"Job {parts[0]} does not exist")
        if parts[1:] == ["stop"]:
            self.stopped.append(parts[0])
            return httpx.Response(200, json={"stopped": True})
        job = self.jobs[parts[0]]
        return httpx.Response(200, json={"logs": job["log"]} if parts[1:] == ["logs"] else job)

    def submitted(self, body: dict[str, object]) -> httpx.Response:
        id = str(body["submission_id"])
        if id in self.jobs:
            return httpx.Response(500, text=f"ValueError: Job with submission_id {id} already exists")
        self.jobs[id] = {"submission_id": id, "metadata": body["metadata"]}
        status, code, log = self.run(id)
        self.jobs[id] |= {"status": status, "driver_exit_code": code, "log": log}
        return httpx.Response(200, json={"submission_id": id})


def setting(tmp_path: Path, ray: Ray, *, here: bool = True, **limits: float) -> Setting:
    spec = Spec.model_validate(
        {
            "name": "toy",
            "data": {"source": "parquet", "label": "y"},
            "train": {"trainers": {"xgboost": {}}},
            "submit": limits,
        }
    )
    return Setting(
        spec=spec,
        ledger=Ledger(tmp_path / "ledger.db"),
        server=RayJobs("http://127.0.0.1:1", httpx.Client(transport=httpx.MockTransport(ray))),
        place=Place(here=here, python="python", spec=Path("spec.yaml")),
    )


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAYMLOPS_HOME", str(tmp_path / "home"))


def test_a_job_on_another_machine_is_done_by_what_its_log_says(tmp_path: Path) -> None:
    ray = Ray(run=lambda id: ("SUCCEEDED", 0, f'text\n{RESULT}{{"outputs":["s3://a"],"rows":2}}\n'))

    result = run_step(setting(tmp_path, ray, here=False), TRAIN, ["train"])

    assert (result.state, result.attempt, result.result["rows"]) == ("done", 1, 2)
    assert run_step(setting(tmp_path, ray, here=False), TRAIN, ["train"]).state == "skipped"


def test_wrong_input_on_another_machine_is_not_tried_again(tmp_path: Path) -> None:
    ray = Ray(run=lambda id: ("FAILED", 1, f'{FAILED}{{"cause":"DataError: no rows","final":true}}\n'))

    with pytest.raises(StageFailed, match="train failed in attempt 1: DataError: no rows"):
        run_step(setting(tmp_path, ray, here=False), TRAIN, ["train"])


@pytest.mark.parametrize("code", [2, 3])
def test_exit_codes_of_wrong_input_and_of_missing_things_are_not_tried_again(code: int, tmp_path: Path) -> None:
    ray = Ray(run=lambda id: ("FAILED", code, "error: spec.yaml:1: data: is missing"))

    with pytest.raises(StageFailed, match=r"attempt 1: error: spec\.yaml:1: data: is missing"):
        run_step(setting(tmp_path, ray), TRAIN, ["train"])


def test_a_failure_is_tried_as_often_as_the_spec_says_and_then_shows_its_cause(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = 'Traceback (most recent call last):\n  File "a.py", line 1\nOSError: disk is full\n'
    ray = Ray(run=lambda id: ("FAILED", 1, log))

    with pytest.raises(StageFailed, match=r"train failed in attempt 3: OSError: disk is full"):
        run_step(setting(tmp_path, ray, attempts=3), TRAIN, ["train"])

    assert list(ray.jobs) == [FIRST, SECOND, "train-aaaaaaaaaaaa-a3"]
    assert capsys.readouterr().err.count('File "a.py", line 1') == 3


def test_what_outlives_its_time_is_stopped_and_tried_again(tmp_path: Path) -> None:
    on = setting(tmp_path, Ray(run=lambda id: ("RUNNING", None, "")), timeout_s=0.5)
    ray = Ray(run=lambda id: ("RUNNING", None, "") if id == FIRST else ended(on, id))
    on = setting(tmp_path, ray, timeout_s=0.5)

    assert run_step(on, TRAIN, ["train"]).attempt == 2
    assert ray.stopped == [FIRST]


def ended(on: Setting, id: str) -> tuple[str, int | None, str]:
    """Do what the process of a stage does."""
    number = int(id[-1])
    on.ledger.report(TRAIN, Started(now=time.time(), attempt=number))
    on.ledger.report(TRAIN, Finished(now=time.time(), attempt=number), result={"outputs": []})
    return "SUCCEEDED", 0, ""


def test_a_step_whose_cluster_was_ended_gives_its_slot_to_the_next(tmp_path: Path) -> None:
    score = Step(identity="b" * 64, stage="score", name="toy", address="http://127.0.0.1:1")
    ray = Ray(run=lambda id: ended(on, id))
    on = setting(tmp_path, ray, running=1)
    on.ledger.advance(score, Asked(now=1), limits=Limits(attempts=1, timeout_s=1e9), running=1)

    assert run_step(on, TRAIN, ["train"]).state == "done"
    assert [step.stage for step in on.ledger.steps() if step.state.phase == "failed"] == ["score"]


def test_names_that_a_lost_ledger_used_are_not_used_again(tmp_path: Path) -> None:
    ray = Ray(run=lambda id: ended(on, id))
    ray.jobs[FIRST] = {"submission_id": FIRST, "status": "SUCCEEDED", "metadata": {"ledger": "other"}, "log": ""}
    on = setting(tmp_path, ray)

    assert run_step(on, TRAIN, ["train"]).submission_id == SECOND


def test_a_refused_submission_frees_the_step_for_the_next_one(tmp_path: Path) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=[]) if request.method == "GET" else httpx.Response(500, text="no agent")

    on = setting(tmp_path, Ray(run=lambda id: ("RUNNING", None, "")))
    client = httpx.Client(transport=httpx.MockTransport(refuse))
    refused = Setting(spec=on.spec, ledger=on.ledger, server=RayJobs("http://127.0.0.1:1", client), place=on.place)

    with pytest.raises(StageFailed, match="no agent"):
        run_step(refused, TRAIN, ["train"])
    assert on.ledger.active() == []


def test_a_done_step_is_run_again_when_its_output_is_gone(tmp_path: Path) -> None:
    out = tmp_path / "model"

    def make(id: str) -> tuple[str, int | None, str]:
        out.write_text("x")
        on.ledger.report(TRAIN, Finished(now=2, attempt=int(id[-1])), result={"outputs": [str(out)]})
        return "SUCCEEDED", 0, ""

    on = setting(tmp_path, Ray(run=make))
    states = [run_step(on, TRAIN, ["train"]).state for _ in range(2)]
    out.unlink()

    assert [*states, run_step(on, TRAIN, ["train"]).state] == ["done", "skipped", "done"]


def test_outputs_are_files_that_lie_and_urls_that_answer(tmp_path: Path) -> None:
    assert outputs_exist([str(tmp_path), "s3://bucket/a"], here=True)
    assert not outputs_exist([str(tmp_path / "gone")], here=True)
    assert outputs_exist([str(tmp_path / "gone")], here=False)
    assert not outputs_exist(["http://127.0.0.1:1/v2"], here=True)


def test_a_job_in_place_begins_in_this_folder_and_elsewhere_in_its_copy(tmp_path: Path) -> None:
    words = ["python", "-m", "raymlops", "train", "a spec.yaml"]

    assert Place(here=True, python="python", spec=Path("a")).entrypoint(words) == (
        f"cd {tmp_path} && exec python -m raymlops train 'a spec.yaml'"
    )
    assert Place(here=False, python="python", spec=Path("a")).entrypoint(words) == (
        "exec python -m raymlops train 'a spec.yaml'"
    )
