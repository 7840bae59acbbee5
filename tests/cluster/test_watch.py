"""A block that uses a cluster is left when the head's processes end, even where it does not listen. Without Ray."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from raymlops.cluster.watch import watched
from raymlops.errors import Unavailable

DEAF = """
import signal, sys, time
from raymlops.cluster.watch import watched
from raymlops.errors import Unavailable
signal.signal(signal.SIGINT, signal.SIG_IGN)
with watched([int(sys.argv[1])], gone=Unavailable("the head is gone")):
    print("watching", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _hears_ctrl_c() -> Iterator[None]:
    """What a shell starts in the background is deaf to Ctrl-C, this process too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def head() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(["sleep", "100"]) as process:
        yield process
        process.kill()


def test_the_block_is_left_with_the_error_when_a_process_ends(head: "subprocess.Popen[bytes]") -> None:
    def use() -> None:
        with watched([head.pid], gone=Unavailable("the head is gone")):
            head.kill()
            time.sleep(60)

    with pytest.raises(Unavailable, match="the head is gone"):
        use()


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
    for _ in range(100):
        with subprocess.Popen(["sleep", "100"]) as process:
            with watched([process.pid], gone=Unavailable("the head is gone")):
                pass
            process.kill()


def test_a_process_that_does_not_listen_ends_with_the_sentence(head: "subprocess.Popen[bytes]") -> None:
    with subprocess.Popen(
        [sys.executable, "-c", DEAF, str(head.pid)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as deaf:
        assert deaf.stdout
        assert deaf.stdout.readline() == "watching\n"
        head.kill()
        _, said = deaf.communicate(timeout=60)
    assert (deaf.returncode, said) == (3, "error: the head is gone\n")
