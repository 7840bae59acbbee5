"""A run goes on where it stopped, whoever was killed: every row once, nothing seen before the commit. With Ray.

Drivers and workers are killed from outside, at named points and at random moments, on a cluster that stays up.
`RAYMLOPS_KILLS` is the number of random kills, 30 unless it is set; `make test-long` sets it to 200.
"""

import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import psutil
import pyarrow as pa
import pyarrow.dataset
import pytest

from raymlops import cluster
from tests.score.faults.place import DEAD, Place, prepare
from tests.score.faults.sitecustomize import Fault

KILLS = int(os.environ.get("RAYMLOPS_KILLS", "30"))
pytestmark = [pytest.mark.ray, pytest.mark.timeout(400 + 15 * KILLS)]
FILES = 30
ONE = ", workers: 1"  # leaves a CPU to others


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="rml-") as name, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYMLOPS_HOME", f"{name}/home")
        made = prepare(Path(name), files=FILES, rows=1_000)
        for key, value in made.environment.items():
            patch.setenv(key, value)
        running = cluster.start(cpus=2)
        try:
            yield made
        finally:
            cluster.stop(running)


@contextmanager
def _reader(place: Place, sink: str) -> Iterator[None]:
    """Read the sink over and over; at the end, check that nothing but no row or every row was ever seen."""
    ended, seen = Event(), set[int]()

    def read() -> None:
        while not ended.wait(0.02):
            seen.add(place.seen(sink))

    thread = Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    assert seen <= {0, place.rows - DEAD}


def _ended(driver: "subprocess.Popen[str]") -> tuple[int, str]:
    _, said = driver.communicate(timeout=200)
    return driver.returncode, said


PART = r"/\.\w{16}/.*part-"
WORKER_POINTS = {
    "before the folder of parts is made": Fault(step="mkdir", path=r"/\.\w{16}$"),
    "before a part is opened": Fault(step="open", path=PART, nth=2),
    "half a part": Fault(step="write", path=PART, how="kill half"),
    "before a part is fsynced": Fault(step="fsync", path=PART, nth=3),
    "between a part's fsync and its rename": Fault(step="rename", path=PART, nth=2),
    "after a part's rename": Fault(step="rename", path=PART, nth=3, how="kill after"),
    "half a dead letter": Fault(step="write", path=r"/\.dead/", how="kill half"),
    "after the dead letters' rename": Fault(step="rename", path=r"/\.dead/", how="kill after"),
}


@pytest.mark.parametrize("name", WORKER_POINTS)
def test_a_worker_killed_at_a_named_point_is_replaced_and_the_run_goes_on(name: str, place: Place) -> None:
    sink = f"worker-{[*WORKER_POINTS].index(name)}"
    place.fault(_by("worker", WORKER_POINTS[name]))
    with _reader(place, sink):
        code, said = _ended(place.score(sink))
    assert code == 0, said
    assert not place.fault_waits()
    place.check(sink)


def _by(who: str, fault: Fault) -> Fault:
    return Fault(**{**fault.__dict__, "who": who})


SLOW = Fault(step="rename", path=PART, how="slow", who="worker")
DRIVER_POINTS = {
    "after the attempt is claimed": Fault(step="link", path=r"/attempts/", how="kill after"),
    "half a ledger line": Fault(step="write", path="pieces-", nth=3, how="kill half"),
    "after a ledger line": Fault(step="write", path="pieces-", nth=5, how="kill after"),
    "before the commit": Fault(step="mkdir", path=r"commit-"),
    "in the middle of linking": Fault(step="link", path=r"commit-", nth=FILES // 2),
    "before the commit's rename": Fault(step="rename", path=r"/driver/\w{16}$"),
    "after the commit's rename": Fault(step="rename", path=r"/driver/\w{16}$", how="kill after"),
    "before the record's manifest": Fault(step="link", path=r"/runs/m/\w+/manifest"),
}


def test_a_driver_killed_at_each_named_point_in_turn_leaves_a_run_that_goes_on(place: Place) -> None:
    with _reader(place, "driver"):
        for name, fault in DRIVER_POINTS.items():
            place.fault(_by("driver", fault))
            code, said = _ended(place.score("driver"))
            shown = name in ("after the commit's rename", "before the record's manifest")
            assert (code, place.fault_waits()) == (-signal.SIGKILL, False), f"{name}: {said}"
            assert place.seen("driver") == (place.rows - DEAD if shown else 0), name
        code, said = _ended(place.score("driver"))
    assert code == 0, said
    assert f"0 of {FILES} pieces to do" in said
    place.check("driver")


@pytest.mark.parametrize("more", ["", ONE], ids=["all", "one"])
def test_a_piece_that_kills_every_process_stops_the_run_with_a_sentence(place: Place, more: str) -> None:
    sink = f"poison{len(more)}"
    place.fault(Fault(step="rename", path=PART + "00007", who="worker", always=True))
    code, said = _ended(place.score(sink, more))
    assert code == 1, said
    assert re.search(r"error: score: .*(died|Crashed)", said), said
    assert place.seen(sink) == 0
    (place.folder / "fault.json").unlink()
    code, said = _ended(place.score(sink, more))
    assert code == 0, said
    assert f"{FILES} of {FILES} pieces" not in said
    place.check(sink)


def test_a_disk_that_is_full_in_a_worker_fails_the_command_with_the_cause(place: Place) -> None:
    place.fault(Fault(step="write", path=PART, how="ENOSPC", who="worker"))
    code, said = _ended(place.score("full"))
    assert code == 1, said
    assert "cannot be written: [Errno 28] No space left on device" in said
    assert place.seen("full") == 0
    assert _ended(place.score("full"))[0] == 0
    place.check("full")


def test_a_driver_that_was_stopped_and_goes_on_after_another_committed_changes_nothing(place: Place) -> None:
    place.fault(SLOW)
    first = place.score("orphan", ONE)
    _wait(lambda: place.done("orphan") >= 10 or first.poll() is not None)
    first.kill()
    _ended(first)
    orphan = place.score("orphan", ONE)
    _wait(lambda: place.done("orphan") >= 13 or orphan.poll() is not None)
    orphan.send_signal(signal.SIGSTOP)
    (place.folder / "fault.json").unlink()
    try:
        code, said = _ended(place.score("orphan", ONE))
        assert code == 0, said
        place.check("orphan")
        shown = {path: path.stat().st_mtime_ns for path in (place.folder / "orphan").rglob("*")}
    finally:
        orphan.send_signal(signal.SIGCONT)
    code, said = _ended(orphan)
    assert code == 1, said
    assert "was taken over by attempt 3" in said
    assert {path: path.stat().st_mtime_ns for path in (place.folder / "orphan").rglob("*") if path in shown} == shown
    place.check("orphan")


def _wait(until: Callable[[], bool], *, within_s: float = 100) -> None:
    deadline = time.monotonic() + within_s
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_more_workers_than_the_cluster_has_cpus_for_is_said_at_once(place: Place) -> None:
    code, said = _ended(place.score("many", ", workers: 64"))
    assert code == 0, said
    assert "score.workers: 64 asked, 2 fit the cluster and are used" in said
    place.check("many")


HOLDER = """
import sys, ray
from raymlops.cluster import attached
from raymlops.cluster.on_ray import connect
with connect(attached()):
    @ray.remote(num_cpus=2)
    class Holder:
        def held(self): return "held"
    holder = Holder.remote()
    print(ray.get(holder.held.remote()), flush=True)
    sys.stdin.read()
"""


def test_a_cluster_whose_cpus_are_taken_is_said_at_once_and_waited_for(place: Place) -> None:
    environ = {**os.environ, **place.environment}
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], env=environ, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdin
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        driver = place.score("busy")
        assert driver.stderr
        lines = iter(driver.stderr.readline, "")
        assert any("2 of 2 CPUs of the cluster are taken by other work; waiting" in line for line in lines)
        assert driver.poll() is None
        other.stdin.close()
    assert _ended(driver)[0] == 0
    place.check("busy")


def test_a_finished_run_is_not_done_again(place: Place) -> None:
    assert _ended(place.score("finished"))[0] == 0
    before = sorted((path, path.stat().st_mtime_ns) for path in place.home.glob("runs/m/*/*"))
    code, said = _ended(place.score("finished"))
    assert code == 0
    assert "is finished, nothing to do" in said
    assert sorted((path, path.stat().st_mtime_ns) for path in place.home.glob("runs/m/*/*")) == before


def test_two_drivers_on_one_run_one_commits_and_the_other_says_why_not(place: Place) -> None:
    drivers = [place.score("both") for _ in range(2)]
    ends = [_ended(driver) for driver in drivers]
    said = [text for code, text in ends if code == 1]
    assert sorted(code for code, _ in ends) in ([0, 1], [0, 0]), ends
    assert all("taken over by attempt" in text or "committed by another attempt" in text for text in said), said
    if not said:
        assert any("is finished, nothing to do" in text for _, text in ends)
    place.check("both")


def test_runs_killed_at_random_moments_go_on_to_the_rows_of_a_plain_loop(place: Place) -> None:
    draw = random.Random(20)
    begun = time.monotonic()
    assert _ended(place.score("unbroken"))[0] == 0
    unbroken_s = time.monotonic() - begun
    sink, kills, ended = "random-0", 0, 0
    while kills < KILLS:
        with _reader(place, sink):
            driver = place.score(sink, ONE if ended % 2 else "")
            try:
                driver.wait(timeout=draw.uniform(0.1, 1.1 * unbroken_s))
            except subprocess.TimeoutExpired:
                kills += 1
                workers = _workers(place) if draw.random() < 0.3 else []
                if workers:
                    draw.choice(workers).kill()
                else:
                    driver.kill()
            code, said = _ended(driver)
        assert code in (0, -signal.SIGKILL), said
        if code == 0:
            place.check(sink)
            ended += 1
            sink = f"random-{ended}"
    code, said = _ended(place.score(sink))
    assert code == 0, said
    place.check(sink)


def test_a_stream_is_scored_on_from_where_the_last_run_ended(place: Place) -> None:
    log = place.folder / "app.log"
    for first, expected in ((0, "rows in"), (100, "rows in"), (200, "nothing new")):
        if expected != "nothing new":
            with log.open("a") as file:
                file.writelines(
                    f'{{"id": {i}, "a": 0.5, "b": 0.1, "colour": "red"}}\n' for i in range(first, first + 100)
                )
        code, said = _ended(place.score("stream", source=f"{{log: {{path: {log}, max_bytes: 900}}}}"))
        assert code == 0, said
        assert expected in said
    assert len([*(place.folder / "stream").glob("*/_manifest.json")]) >= 4
    ids = pa.dataset.dataset(place.folder / "stream", format="parquet").to_table().column("id").to_pylist()
    assert sorted(ids) == list(range(200))


def _workers(place: Place) -> list[psutil.Process]:
    """Return the processes of this place that score; not Ray's own agents, without which a node ends itself."""
    scoring = ("ray::_score", "ray::_work", "ray::_warm", "ray::MapBatches")
    found = []
    for process in psutil.process_iter():
        try:
            if " ".join(process.cmdline()).startswith(scoring) and process.environ().get("RAYMLOPS_HOME") == str(
                place.home
            ):
                found.append(process)
        except psutil.Error:
            continue
    return found
