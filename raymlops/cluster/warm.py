"""What a process of a new node imports while there is no work yet: `RAY_preload_python_modules` names this module.

A process that a node starts later is started for something: there it imports nothing.
"""

import os
import sys

import psutil

__all__: list[str] = []

_WITH_ITS_NODE_S = 8.0  # Ray waits for its agents first, on a busy machine for seconds


def _waits_for_work() -> bool:
    """Return whether this process was started with its node, before there was anything to do."""
    launched = [word.partition("=")[2] for word in sys.argv if word.startswith("--worker-launch-time-ms=")]
    try:
        node = psutil.Process(os.getppid()).create_time()
    except psutil.Error:
        return False
    return bool(launched) and int(launched[0]) / 1000 - node < _WITH_ITS_NODE_S


if _waits_for_work():
    import pandas  # noqa: F401 - pyarrow imports it with the first array

    import raymlops.score.on_ray  # noqa: F401
    from raymlops.engine.formats.xgboost import import_xgboost

    import_xgboost()
