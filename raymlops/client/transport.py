"""When a call is tried again, and what an unreachable endpoint is called. Knows nothing of what is said."""

import httpx

from raymlops.errors import RaymlopsError, Unavailable

__all__ = ["MOST_TRIES", "headers", "past_proxies", "pause_s", "unreachable"]

MOST_TRIES = 3
_FIRST_PAUSE_S = 0.2


def headers(key: str | None, *, body: bool) -> dict[str, str]:
    """Return the headers of a call."""
    sent = {"Authorization": f"Bearer {key}"} if key is not None else {}
    return sent | ({"Content-Type": "application/json"} if body else {})


def pause_s(tries: int, outcome: httpx.TransportError | int) -> float | None:
    """Return how long to wait before trying again after `tries` tries, or None to give up.

    Tried again is what surely changed nothing and may pass: a connection that was never made, and a 503.

    >>> pause_s(1, 503), pause_s(2, 503), pause_s(3, 503), pause_s(1, 500)
    (0.2, 0.4, None, None)
    """
    again = (
        outcome == 503 if isinstance(outcome, int) else isinstance(outcome, httpx.ConnectError | httpx.ConnectTimeout)
    )
    return _FIRST_PAUSE_S * 2 ** (tries - 1) if again and tries < MOST_TRIES else None


def past_proxies(url: str) -> bool:
    """Return whether a URL is this machine, which no proxy of the environment can reach."""
    return httpx.URL(url).host in ("localhost", "127.0.0.1", "::1")


def unreachable(url: str, error: httpx.TransportError, *, timeout_s: float) -> RaymlopsError:
    """Return the error to raise for a call that got no reply."""
    if isinstance(error, httpx.TimeoutException):
        return Unavailable(f"endpoint: {url} did not answer within {timeout_s:g} s")
    return Unavailable(f"endpoint: {url} cannot be reached ({error}); is it served? `raymlops serve SPEC`")
