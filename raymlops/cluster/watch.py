"""Leave a cluster as soon as its head is gone, where Ray itself would wait for a minute (measured, Ray 2.60).

Knows nothing of Ray or of what is done on the cluster.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import psutil

from raymlops.cluster.processes import is_running
from raymlops.errors import Unavailable

__all__ = ["watched"]

_EVERY_S = 0.5
_TO_UNWIND_S = 5.0


@contextmanager
def watched(head: Sequence[int], *, gone: Unavailable) -> Iterator[None]:
    """Raise `gone` out of the block when one of the pids of a cluster's head ends; only a main thread is watched for.

    A block that hangs in Ray all the same ends with this process after five seconds,
    with the same sentence and exit code.
    """
    main = threading.main_thread()
    if not head or threading.current_thread() is not main or main.ident is None:
        yield
        return
    try:
        processes = [psutil.Process(pid) for pid in head]
    except psutil.NoSuchProcess as error:
        raise gone from error
    left, lost, turn = threading.Event(), threading.Event(), threading.Lock()
    threading.Thread(target=_watch, args=(processes, main.ident, left, lost, turn, gone), daemon=True).start()
    try:
        try:
            yield
        finally:
            with turn:  # a head that ends from now on, as that of this command does, is no loss
                left.set()
    except BaseException as error:
        left.set()
        if lost.is_set():
            raise gone from error
        raise


def _watch(
    head: Sequence[psutil.Process],
    main: int,
    left: threading.Event,
    lost: threading.Event,
    turn: threading.Lock,
    gone: Unavailable,
) -> None:
    while all(is_running(process.pid, process.create_time()) for process in head):
        if left.wait(_EVERY_S):
            return
    with turn:
        if left.is_set():
            return
        lost.set()
        signal.pthread_kill(main, signal.SIGINT)
    if not left.wait(_TO_UNWIND_S):
        sys.stderr.write(f"error: {gone}\n")
        sys.stderr.flush()
        os._exit(gone.exit_code)
