"""TCP ports of this machine: which are free, and who holds one. Knows nothing of Ray."""

import random
import socket
from dataclasses import dataclass

import psutil

__all__ = ["LOOPBACK", "Block", "free_block", "holder", "is_free", "is_loopback", "listener"]

LOOPBACK = "127.0.0.1"
# Below Linux's ephemeral ports (32768 to 60999), so that no outgoing connection takes one between choice and use.
_RANGE = range(20_000, 32_000)


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive free ports: single ones first, then a range of `spare` for processes that come and go."""

    first: int
    single: int
    spare: int

    @property
    def range(self) -> tuple[int, int]:
        """Return the lowest and highest port of the range."""
        return self.first + self.single, self.first + self.single + self.spare - 1


def free_block(single: int, spare: int, *, draw: random.Random) -> Block:
    """Return a block in which every port is free now; somebody else may still take one."""
    size = single + spare
    while True:
        first = draw.randrange(_RANGE.start, _RANGE.stop - size)
        if all(is_free(port) for port in range(first, first + size)):
            return Block(first, single, spare)


def is_free(port: int) -> bool:
    """Return whether this process could listen on a loopback port."""
    with socket.socket() as probe:
        # A port in TIME_WAIT is free to a server; a port that is listened on is not.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def holder(port: int) -> str:
    """Return who listens on a port, as `python serve.py (pid 12)`; another user's process has no name here."""
    pid, words = listener(port)
    return f"{' '.join(words)[:80] or 'a process'} (pid {pid})" if pid else "a process of another user"


def listener(port: int) -> tuple[int | None, tuple[str, ...]]:
    """Return pid and command line of who listens on a port; None when nobody does, or nobody of this user."""
    for connection in psutil.net_connections(kind="tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
            return connection.pid, _words(connection.pid)
    return None, ()


def _words(pid: int | None) -> tuple[str, ...]:
    try:
        return tuple(psutil.Process(pid).cmdline()) if pid else ()
    except psutil.Error:
        return ()


def is_loopback(address: str) -> bool:
    """Return whether an IP address is this machine only.

    >>> is_loopback("::ffff:127.0.0.1"), is_loopback("0.0.0.0")
    (True, False)
    """
    return address.removeprefix("::ffff:").startswith("127.") or address == "::1"
