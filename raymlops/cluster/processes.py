"""The processes of one cluster, told by a marker that each inherits in its environment. Never by name.

Knows nothing of Ray. A process that ended its own environment is found through its parents and children.
"""

import os
import subprocess
import sys
from pathlib import Path

import psutil

from raymlops.cluster.ports import is_loopback

__all__ = ["MARKER", "end", "exposed", "is_running", "listening", "marked", "memory_bytes", "reap_after_this_one"]

MARKER = "RAYMLOPS_CLUSTER"


def marked(marker: str) -> list[psutil.Process]:
    """Return the running processes that carry a cluster's marker, and their children; never this process."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        if _carries(process, marker):
            found[process.pid] = process
            for child in _children(process):
                found.setdefault(child.pid, child)
    found.pop(os.getpid(), None)
    return [process for process in found.values() if _is_alive(process)]


def end(marker: str, *, wait_s: float) -> None:
    """End every process that carries a marker: ask, wait, then kill, until there is none."""
    for attempt in range(5):
        left = marked(marker)
        if not left:
            return
        for process in left:
            _signal(process, kill=attempt > 0)
        psutil.wait_procs(left, timeout=wait_s)


def is_running(pid: int, created: float) -> bool:
    """Return whether a pid is still the process that was started at `created`, in seconds of the epoch."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - created) < 1 and _is_alive(process)
    except psutil.Error:
        return False


def memory_bytes(marker: str) -> int:
    """Return the memory of a cluster: proportional set sizes, so that shared pages count once; else resident sizes."""
    return sum(_memory_bytes(process) for process in marked(marker))


def listening(process: psutil.Process) -> list[tuple[str, int]]:
    """Return the addresses and ports that a process listens on."""
    try:
        connections = process.net_connections(kind="inet")
    except psutil.Error:
        return []
    return [(c.laddr.ip, c.laddr.port) for c in connections if c.status == psutil.CONN_LISTEN]


def reap_after_this_one(marker: str, folder: Path) -> "subprocess.Popen[bytes]":
    """Start what ends the marked processes and removes the folder once this process is gone, however it ends."""
    owner = psutil.Process()
    # The reaper does not carry the marker: it ends what does.
    environ = {name: value for name, value in os.environ.items() if name != MARKER}
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("reaper.py")), str(owner.pid), str(owner.create_time()),
         f"{MARKER}={marker}", str(folder)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env=environ, cwd=folder.parent,
    )  # fmt: skip


def exposed(marker: str) -> list[str]:
    """Return what a cluster listens on that other machines could reach, as `ADDRESS:PORT name (pid N)`."""
    return [
        f"{ip}:{port} {process.name()} (pid {process.pid})"
        for process in marked(marker)
        for ip, port in listening(process)
        if not is_loopback(ip)
    ]


def _carries(process: psutil.Process, marker: str) -> bool:
    try:
        return process.environ().get(MARKER) == marker
    except (psutil.Error, OSError):
        return False


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _signal(process: psutil.Process, *, kill: bool) -> None:
    try:
        if kill:
            process.kill()
        else:
            process.terminate()
    except psutil.Error:
        return


def _memory_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (psutil.Error, AttributeError):
        pass
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
