"""A block that uses a cluster is left when the head's processes end, even where it does not listen. Without Ray."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from raymlops.cluster.watch import watched
from raymlops.errors import Unavailable

LEFT = """
import subprocess, sys, time
from raymlops.cluster.watch import watched
from raymlops.errors import Unavailable
head = subprocess.Popen(["sleep", "100"])
try:
    with watched([head.pid], gone=Unavailable("the head is gone")):
        head.kill()
        time.sleep(60)
except Unavailable as error:
    print(error, file=sys.stderr)
"""
ENDS_WITH_IT = """
import subprocess
from raymlops.cluster.watch import watched
from raymlops.errors import Unavailable
for _ in range(100):
    with subprocess.Popen(["sleep", "100"]) as head:
        with watched([head.pid], gone=Unavailable("the head is gone")):
            pass
        head.kill()
"""
DEAF = """
import signal, sys, time
from raymlops.cluster.watch import watched
from raymlops.errors import Unavailable
signal.signal(signal.SIGINT, signal.SIG_IGN)
with watched([int(sys.argv[1])], gone=Unavailable("the head is gone")):
    print("watching", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def head() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(["sleep", "100"]) as process:
        yield process
        process.kill()


def _ended(program: str, *words: str) -> tuple[int, str]:
    """Run a program that hears Ctrl-C, which what a shell started in the background does not; return how it ended."""
    hears = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    made = subprocess.run([sys.executable, "-c", hears + program, *words], capture_output=True, text=True, timeout=60)
    return made.returncode, made.stderr


def test_the_block_is_left_with_the_error_when_a_process_ends() -> None:
    assert _ended(LEFT) == (0, "the head is gone\n")


def test_a_block_that_ends_by_itself_is_left_alone(head: "subprocess.Popen[bytes]") -> None:
    with pytest.raises(KeyError), watched([head.pid], gone=Unavailable("the head is gone")):
        raise KeyError
    with watched([], gone=Unavailable("there is none")):
        pass
    head.kill()
    head.wait()
    with pytest.raises(Unavailable), watched([head.pid], gone=Unavailable("it was gone before")):
        raise AssertionError


def test_a_head_that_ends_as_the_block_is_left_interrupts_nobody() -> None:
    assert _ended(ENDS_WITH_IT) == (0, "")


def test_a_process_that_does_not_listen_ends_with_the_sentence(head: "subprocess.Popen[bytes]") -> None:
    with subprocess.Popen(
        [sys.executable, "-c", DEAF, str(head.pid)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as deaf:
        assert deaf.stdout
        assert deaf.stdout.readline() == "watching\n"
        head.kill()
        _, said = deaf.communicate(timeout=60)
    assert (deaf.returncode, said) == (3, "error: the head is gone\n")
