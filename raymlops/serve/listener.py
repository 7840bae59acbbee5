"""Who listens on a port of this machine. Knows nothing of Ray."""

import errno
import socket

import psutil

__all__ = ["listener"]


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


def _holder(port: int) -> str:
    try:
        found = [c for c in psutil.net_connections(kind="tcp") if c.status == psutil.CONN_LISTEN]
        pid = next((c.pid for c in found if getattr(c.laddr, "port", None) == port and c.pid), None)
        if pid is None:
            return "a process of another user"
        return f"pid {pid} ({' '.join(psutil.Process(pid).cmdline())[:120]})"
    except psutil.Error:
        return "a process that cannot be looked at"
