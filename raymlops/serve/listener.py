"""Who listens on a port of this machine. Knows nothing of Ray."""

import errno
import os
import socket
from contextlib import suppress
from pathlib import Path

import psutil

__all__ = ["LOOPBACK", "has_company", "last_callers", "listener"]

LOOPBACK = "127.0.0.1"
_LISTEN = "0A"  # a state of the kernel's table of TCP sockets


def listener(host: str, port: int) -> str | None:
    """Return why the port cannot be bound on `host`, as `is in use by pid 123 (python app.py)`, or None if it can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do it: a port that only waits for its last connections to fade is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return f"is in use by {_holder(port)}"
            return f"cannot be bound on {host}: {error.strerror}"
    return None


def last_callers(listening: socket.socket) -> list[socket.socket]:
    """Close a listening socket that does not block, and return the connections that waited in its queue.

    Between the last of them and the end of the socket lie some microseconds, in which the kernel resets who comes;
    `net.ipv4.tcp_migrate_req=1` (Linux 5.14) gives those to another socket of the port.
    """
    waiting = []
    with suppress(BlockingIOError):
        while True:
            waiting.append(listening.accept()[0])
    listening.close()
    for connection in waiting:
        connection.setblocking(False)
    return waiting


def has_company(listening: socket.socket) -> bool:
    """Return whether another socket listens on the same port too, as replicas on a node do; Linux only, else False."""
    port, own = listening.getsockname()[1], str(os.fstat(listening.fileno()).st_ino)
    table = Path("/proc/net/tcp6" if listening.family == socket.AF_INET6 else "/proc/net/tcp")
    if not table.exists():
        return False
    rows = (line.split() for line in table.read_text().splitlines()[1:])
    return any(row[3] == _LISTEN and int(row[1].rpartition(":")[2], 16) == port and row[9] != own for row in rows)


def _holder(port: int) -> str:
    try:
        found = [c for c in psutil.net_connections(kind="tcp") if c.status == psutil.CONN_LISTEN]
        pid = next((c.pid for c in found if getattr(c.laddr, "port", None) == port and c.pid), None)
        if pid is None:
            return "a process of another user"
        return f"pid {pid} ({' '.join(psutil.Process(pid).cmdline())[:120]})"
    except psutil.Error:
        return "a process that cannot be looked at"
