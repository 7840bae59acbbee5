"""When a call is tried again, whatever carries it. Knows nothing of what is said."""

from raymlops.errors import Unavailable

__all__ = ["MOST_TRIES", "is_here", "pause_s", "silent", "unreachable"]

MOST_TRIES = 3
_FIRST_PAUSE_S = 0.2


def pause_s(tries: int, *, passes: bool) -> float | None:
    """Return how long to wait before trying again after `tries` tries, or None to give up.

    Tried again is only what ``passes``: what surely changed nothing and may be over soon, such as a connection that
    was never made, and a server that said that it is busy.

    >>> pause_s(1, passes=True), pause_s(2, passes=True), pause_s(3, passes=True), pause_s(1, passes=False)
    (0.2, 0.4, None, None)
    """
    return _FIRST_PAUSE_S * 2 ** (tries - 1) if passes and tries < MOST_TRIES else None


def is_here(host: str) -> bool:
    """Return whether a host is this machine, which no proxy of the environment can reach."""
    return host in ("localhost", "127.0.0.1", "::1")


def silent(url: str, *, timeout_s: float) -> Unavailable:
    """Return the error of a call that was not answered in time."""
    return Unavailable(f"endpoint: {url} did not answer within {timeout_s:g} s")


def unreachable(url: str, why: object) -> Unavailable:
    """Return the error of a call that did not get there."""
    return Unavailable(f"endpoint: {url} cannot be reached ({why}); is it served? `raymlops serve SPEC`")
