"""Watch one process and end a tied cluster when it is gone: `python -m raymlops.cluster.tie PID CREATED STATE`."""

import sys
import time

from raymlops.cluster.local import decoded, stop
from raymlops.cluster.processes import is_running, marked

__all__ = ["main"]


def main(pid: int, created: float, state: str) -> None:
    """Return when the cluster has ended, by itself or because its owner did."""
    cluster = decoded(state)
    while is_running(pid, created):
        if not is_running(cluster.pid, cluster.created):
            break
        time.sleep(0.5)
    if is_running(cluster.pid, cluster.created) or marked(cluster.marker):
        stop(cluster)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3])
