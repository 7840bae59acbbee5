"""A cluster that dies under a run is said within seconds; a node that dies is done without. With Ray."""

import os
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from raymlops import cluster
from raymlops.cluster import LocalCluster
from raymlops.cluster.processes import marked
from tests.nodes import two_nodes
from tests.score.faults.place import Place, prepare
from tests.score.faults.sitecustomize import Fault

TURNS = max(3, int(os.environ.get("RAYMLOPS_KILLS", "30")) // 10)
pytestmark = [pytest.mark.ray, pytest.mark.timeout(400 + 15 * TURNS)]
FILES = 30
SLOW = Fault(step="rename", path=r"/\.\w{16}/.*part-", how="slow", who="worker")


@pytest.fixture
def place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="rml-") as name, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYMLOPS_HOME", f"{name}/home")
        made = prepare(Path(name), files=FILES, rows=1_000)
        for key, value in made.environment.items():
            patch.setenv(key, value)
        made.fault(SLOW)
        yield made


def _wait(until: Callable[[], bool], *, within_s: float = 100) -> None:
    deadline = time.monotonic() + within_s
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _wait_for(place: Place, driver: "subprocess.Popen[str]", pieces: int, *, sink: str = "out") -> None:
    _wait(lambda: place.done(sink) >= pieces or driver.poll() is not None)


def _kill(running: LocalCluster, name: str) -> None:
    found = [p.pid for p in marked(running.marker) if p.name() == name] if name != "head" else [running.pid]
    os.kill(found[0], signal.SIGKILL)


def test_a_driver_whose_cluster_dies_says_so_soon_and_a_new_cluster_goes_on(place: Place) -> None:
    _score_until_it_dies(place, "raylet")
    _score_until_it_dies(place, "head")
    running = cluster.start(cpus=2)
    try:
        before = place.done("out")
        driver = place.score("out")
        _, said = driver.communicate(timeout=100)
        assert driver.returncode == 0, said
        assert f"{FILES - before} of {FILES} pieces to do" in said
    finally:
        cluster.stop(running)
    place.check("out")


def _score_until_it_dies(place: Place, name: str) -> None:
    running = cluster.start(cpus=2)
    try:
        driver = place.score("out")
        _wait_for(place, driver, place.done("out") + 4)
        _kill(running, name)
        _, said = driver.communicate(timeout=45)  # Ray by itself takes 60 s
        sentence = f"error: the local cluster, pid {running.pid}, (see {running.log}) ended while it was in use"
        _check_end(driver.returncode, said, sentence)
        assert place.seen("out") == 0
        assert cluster.attached() is None
    finally:
        cluster.stop(running)


def _check_end(code: int, said: str, sentence: str) -> None:
    # A reply of a worker that outlives its node can break an invariant within Ray 2.60, which then ends the process.
    by_ray = code == 1 and "You have likely discovered a bug in Ray" in said
    assert by_ray or (code == 3 and sentence in said), said


def test_a_run_on_a_cluster_of_its_own_goes_on_whoever_dies(place: Place) -> None:
    draw, ended = random.Random(4), 0
    for turn in range(TURNS):
        sink, victim = f"own-{ended}", ("raylet", "gcs_server", "driver")[turn % 3]
        driver = place.score(sink)
        _wait_for(place, driver, place.done(sink) + draw.randint(1, 8), sink=sink)
        with suppress(psutil.NoSuchProcess, StopIteration):
            mine = psutil.Process(driver.pid)
            (mine if victim == "driver" else next(p for p in mine.children() if p.name() == victim)).kill()
        _, said = driver.communicate(timeout=45)
        if driver.returncode == 0:
            place.check(sink)
            ended += 1
            continue
        if victim == "driver":
            assert driver.returncode == -signal.SIGKILL, said
        else:
            _check_end(driver.returncode, said, "error: the cluster of this command ended while it was in use")
        assert place.seen(sink) == 0
    driver = place.score(sink)
    _, said = driver.communicate(timeout=100)
    assert driver.returncode == 0, said
    assert f"{FILES} of {FILES} pieces to do" not in said
    place.check(sink)


def test_pieces_are_spread_over_two_nodes_and_a_run_ends_without_the_one_that_died(place: Place) -> None:
    with two_nodes() as nodes:
        driver = place.score("out", **nodes.inside)
        _wait(lambda: set(_scored_by(place)) == {*nodes.raylets} or driver.poll() is not None)
        done = place.done("out")
        os.kill(nodes.raylets[1], signal.SIGKILL)
        _, said = driver.communicate(timeout=150)
    assert driver.returncode == 0, said
    assert done < FILES
    assert set(_scored_by(place)) == {*nodes.raylets}
    place.check("out")


def _scored_by(place: Place) -> list[int]:
    """Return the node of each piece that was scored, as the pid of its raylet."""
    return [int(line.split()[0]) for line in place.notes]
