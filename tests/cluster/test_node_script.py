"""`cluster/node.sh` with a stand-in command in Ray's place: what it starts, and what it ends."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "cluster" / "node.sh"
# Says what `ray start` says when it is up, notes that it ran, and stays.
STAND_IN = 'echo started >>"$1"; echo "Ray runtime started."; exec sleep 60'


def node(state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run node.sh with its state in `state`."""
    return subprocess.run(
        ["bash", str(SCRIPT), *arguments],
        env={**os.environ, "RAYMLOPS_NODE_DIR": str(state), "RAYMLOPS_NODE_WAIT_S": "5"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def start(state: Path) -> subprocess.CompletedProcess[str]:
    """Start the stand-in; each run of it adds a line to `ran`."""
    return node(state, "start", "sh", "-c", STAND_IN, "sh", str(state.parent / "ran"))


def runs(pid: int) -> bool:
    """Tell whether a process of that number is there and is not a zombie."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """Give a state folder, and end what was left running under it."""
    folder = tmp_path / "node"
    yield folder
    node(folder, "stop")


def test_a_second_start_starts_nothing(state: Path) -> None:
    assert start(state).returncode == 0
    pid = int((state / "node.pid").read_text())
    again = start(state)
    assert (again.returncode, f"pid {pid}" in again.stdout) == (0, True)
    assert (state.parent / "ran").read_text() == "started\n"
    assert runs(pid)


def test_stop_ends_what_start_began_and_nothing_else(state: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as neighbour:
        try:
            start(state)
            pid = int((state / "node.pid").read_text())
            assert node(state, "stop").returncode == 0
            assert not runs(pid)
            assert neighbour.poll() is None
        finally:
            neighbour.kill()


def test_a_pid_left_by_a_crash_is_not_trusted(state: Path) -> None:
    start(state)
    os.kill(int((state / "node.pid").read_text()), signal.SIGKILL)
    with subprocess.Popen(["sleep", "60"]) as stranger:
        try:
            (state / "node.pid").write_text(f"{stranger.pid}\n")
            assert "nothing of ours runs here" in node(state, "stop").stdout
            assert stranger.poll() is None
            assert start(state).returncode == 0
            assert (state.parent / "ran").read_text() == "started\n" * 2
        finally:
            stranger.kill()


def test_a_node_that_does_not_come_up_is_reported_with_its_last_words(state: Path) -> None:
    failed = node(state, "start", "sh", "-c", "echo port 6379 is taken; exit 3")
    assert failed.returncode == 1
    assert "port 6379 is taken" in failed.stderr


def test_stopping_a_host_that_never_started_is_no_error(state: Path) -> None:
    assert node(state, "stop").returncode == 0
