"""Watch a process; when it is gone, end what it left behind: `python reaper.py PID CREATED VARIABLE=MARKER FOLDER`.

What it left behind are the processes that carry the marker in their environment, with their children, and the folder.
It is run as a file and knows nothing of the package, so that it starts in a moment.
"""

import shutil
import sys
import time

import psutil

__all__ = ["main"]


def main(pid: int, created: float, marker: str, folder: str) -> None:
    """Return when the process has ended and nothing of it is left."""
    while _runs(pid, created):
        time.sleep(0.5)
    name, _, value = marker.partition("=")
    # What is being started while the others end is found the next time.
    while left := [process for process in psutil.process_iter() if _carries(process, name, value)]:
        for process in [*left, *(child for one in left for child in _children(one))]:
            _kill(process)
        psutil.wait_procs(left, timeout=3)
    shutil.rmtree(folder, ignore_errors=True)


def _runs(pid: int, created: float) -> bool:
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - created) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _carries(process: psutil.Process, name: str, value: str) -> bool:
    try:
        return process.environ().get(name) == value and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return False


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.Error:
        return


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), *sys.argv[3:5])
