"""The main job on a table that is not the demo's: several classes, missing values, no time. Interrupted, then whole."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A short folder with a spec of its own; nothing may run for it when the tests are over."""
    folder = Path("/tmp") / f"rml-{os.getpid()}"
    folder.mkdir()
    _write_rows(folder / "birds.csv")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "spec.yaml").write_text(f"""
name: birds
data:
  source: {{csv: birds.csv}}
  label: kind
  key: [id]
  windows: {{train: 0.4, valid: 0.15, production: 0.25, recent: 0.1, holdout: 0.1}}
train:
  seed: 3
  trainers:
    xgboost: {{trials: 3, options: {{rounds: 20}}, space: {{max_depth: {{integers: [2, 5]}}}}}}
    pytorch: {{trials: 1, options: {{hidden: [16], epochs: 3}}}}
score: {{keep: [island]}}
serve: {{port: {port}}}
""")
    yield folder
    left = _left(folder)
    shutil.rmtree(folder)
    assert left == []


def _write_rows(path: Path) -> None:
    random = np.random.default_rng(0)
    kind = random.choice(["auk", "gull", "tern"], 3000, p=[0.5, 0.3, 0.2])
    size = np.where(kind == "auk", 40.0, np.where(kind == "gull", 55.0, 35.0)) + random.normal(0, 8, 3000)
    island = np.where(random.random(3000) < 0.6, "north", random.choice(["east", "west"], 3000))
    pa_csv.write_csv(pa.table({
        "id": np.arange(3000), "size": pa.array(size, mask=random.random(3000) < 0.1), "island": island,
        "weight": np.round(size * 20 + random.normal(0, 300, 3000)).astype(int), "kind": kind,
    }), path)  # fmt: skip


def _environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "RAYMLOPS_"))}
    return kept | {"RAYMLOPS_HOME": str(folder / "home"), "RAY_AUTH_MODE": "token"}


def _start(folder: Path, words: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "raymlops", *words], cwd=folder, env=_environment(folder), text=True,
        stdout=subprocess.PIPE, stderr=(folder / "stderr").open("w"),
    )  # fmt: skip


def _run(folder: Path, *words: str) -> tuple[int, str, str]:
    process = _start(folder, words)
    out, _ = process.communicate(timeout=400)
    return process.returncode, out, (folder / "stderr").read_text()


def _running(folder: Path) -> list[str]:
    """Return every process that carries the folder's home in its environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("RAYMLOPS_HOME") == str(folder / "home") and process.status() != "zombie":
                found.append(" ".join(process.cmdline())[:120])
        except psutil.Error:
            continue
    return found


def _left(folder: Path) -> list[str]:
    """Return what still runs 5 s later: the watcher of a tied cluster sees the end of its owner within one."""
    deadline = time.monotonic() + 5
    while (left := _running(folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def _interrupted(folder: Path, *, at: str) -> None:
    process = _start(folder, ["demo", "spec.yaml"])
    deadline = time.monotonic() + 300
    while at not in (folder / "stderr").read_text():
        assert process.poll() is None, (folder / "stderr").read_text()
        assert time.monotonic() < deadline, (folder / "stderr").read_text()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert _left(folder) == [], at


def test_the_main_job_goes_on_where_it_was_interrupted_and_leaves_nothing(place: Path) -> None:
    for step in (
        "demo: starting a local Ray cluster",
        "train: sweep",
        "demo: optimize done",
        "serve: submitted",
    ):
        _interrupted(place, at=step)
    code, out, err = _run(place, "demo", "spec.yaml", "--json")
    assert code == 0, err
    assert "train: done" in err
    assert "sweep" not in err.split("champion's configuration again")[0], "the finished sweep is not run again"
    result = json.loads(out)
    assert len(result["train"]["trials"]) == 4
    assert result["score"]["rows_in"] == 3000 == sum(result["score"][name] for name in ("scored", "dead", "filtered"))
    assert result["comparison"]["max_difference"] <= 1e-6
    assert result["comparison"]["rows"] == result["score"]["scored"]
    assert [made["on"] for made in result["again"]] == ["recent"]
    assert (place / "home" / "report" / "birds.html").stat().st_size > 10_000
    assert _left(place) == []


def test_the_scores_are_those_of_a_plain_loop(place: Path) -> None:
    import xgboost

    from raymlops.contract import encode
    from raymlops.data import read_contract

    record = max((place / "home" / "runs" / "birds").glob("*/manifest.json"), key=lambda path: path.stat().st_mtime)
    manifest = json.loads(record.read_text())
    made = pq.read_table(place / "home" / "scores" / "birds" / manifest["run"])
    version = place / "home" / "models" / manifest["digest"]
    rows = pa_csv.read_csv(place / "birds.csv").filter(pa.compute.is_in(
        pa_csv.read_csv(place / "birds.csv").column("id"), made.column("id").combine_chunks()
    ))  # fmt: skip
    contract = read_contract(version)
    x = encode(contract, {name: rows.column(name) for name in contract.names}).x
    if json.loads((version / "model.json").read_text())["format"] != "xgboost":
        pytest.fail("the sweep is meant to be won by trees; make the network's trial weaker")
    answers = xgboost.Booster(model_file=version / "model.ubj").inplace_predict(x)
    assert made.column("id").to_pylist() == rows.column("id").to_pylist()
    for index, name in enumerate(contract.label.classes):
        np.testing.assert_allclose(made.column(f"probability_{name}").to_numpy(), answers[:, index], atol=1e-5)


def test_commands_work_one_by_one_on_a_cluster_that_stays_up(place: Path) -> None:
    code, out, err = _run(place, "up", "--cpus", "2", "--json")
    assert code == 0, err
    up = json.loads(out)
    try:
        code, out, err = _run(place, "submit", "train", "optimize", "score", "spec.yaml", "--follow", "--json")
        assert code == 0, err
        assert {step["state"] for step in json.loads(out)} == {"skipped"}, "the demo's stages are done"
        assert _run(place, "serve", "spec.yaml")[0] == 0
        url = f"http://127.0.0.1:{_port(place)}"
        code, out, err = _run(place, "predict", "birds", "--rows", "birds.csv", "--url", url, "--json")
        assert code == 0, err
        assert len(json.loads(out)["answers"]) == 3000
        _plain_ray_job(place, up)
    finally:
        code, _, err = _run(place, "down")
    assert code == 0, err
    assert _left(place) == []


def _port(place: Path) -> str:
    return (place / "spec.yaml").read_text().split("port: ")[1].split("}")[0]


def _plain_ray_job(place: Path, up: dict[str, object]) -> None:
    """The scripts of `jobs/` need nothing but Ray's own command; relative paths lie in the folder that it sends."""
    project = place / "project"
    (project / "jobs").mkdir(parents=True)
    shutil.copy(ROOT / "jobs" / "monitor.py", project / "jobs")
    for name in ("spec.yaml", "birds.csv"):
        shutil.copy(place / name, project)
    environment = up["environment"]
    assert isinstance(environment, dict)
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ray")), "job", "submit", "--address", str(up["dashboard"]),
         "--working-dir", str(project), "--runtime-env-json",
         json.dumps({"env_vars": {"RAYMLOPS_HOME": str(place / "home")}}), "--", sys.executable, "jobs/monitor.py",
         "spec.yaml"],
        env=_environment(place) | environment, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "birds@" in done.stdout
