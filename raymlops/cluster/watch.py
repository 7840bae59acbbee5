"""Leave a cluster as soon as its head is gone, where Ray itself would wait for a minute (measured, Ray 2.60).

Knows nothing of Ray or of what is done on the cluster.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from raymlops.cluster.local import LocalCluster
from raymlops.cluster.processes import is_running
from raymlops.errors import Unavailable

__all__ = ["watched"]

_EVERY_S = 0.5
_TO_UNWIND_S = 10.0


@contextmanager
def watched(cluster: LocalCluster) -> Iterator[None]:
    """Raise Unavailable out of the block when the head of the cluster ends; only a main thread can be watched for.

    A block that hangs in Ray all the same, as Ray Data's clearing up does, ends with this process after ten seconds,
    with the same sentence and exit code.
    """
    main = threading.main_thread()
    if threading.current_thread() is not main or main.ident is None:
        yield
        return
    left, lost = threading.Event(), threading.Event()
    log = "" if cluster.log.is_relative_to(cluster.folder) else f" (see {cluster.log})"
    gone = Unavailable(
        f"the local cluster, pid {cluster.pid}, ended while it was in use{log}; the same command goes on from here, "
        "on a new cluster"
    )
    thread = threading.Thread(target=_watch, args=(cluster, main.ident, left, lost, gone), daemon=True)
    thread.start()
    try:
        yield
    except BaseException as error:
        if lost.is_set():
            raise gone from error
        raise
    finally:
        left.set()


def _watch(cluster: LocalCluster, main: int, left: threading.Event, lost: threading.Event, gone: Unavailable) -> None:
    while is_running(cluster.pid, cluster.created):
        if left.wait(_EVERY_S):
            return
    lost.set()
    signal.pthread_kill(main, signal.SIGINT)
    if not left.wait(_TO_UNWIND_S):
        sys.stderr.write(f"error: {gone}\n")
        sys.stderr.flush()
        os._exit(gone.exit_code)
