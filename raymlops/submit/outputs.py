"""Whether what a step made is still there. Knows files and URLs, not what is in them."""

from collections.abc import Sequence
from pathlib import Path

__all__ = ["outputs_exist"]

_TIMEOUT_S = 3.0
# An endpoint that asks for a key is there.
_THERE = (200, 401, 403)


def outputs_exist(outputs: Sequence[str], *, here: bool) -> bool:
    """Return whether every path exists and every http URL answers; what only another machine sees counts as there."""
    return all(
        _answers(output) if output.startswith(("http://", "https://")) else _lies(output, here=here)
        for output in outputs
    )


def _lies(output: str, *, here: bool) -> bool:
    return not here or "://" in output or Path(output).exists()


def _answers(url: str) -> bool:
    import httpx

    try:
        return httpx.get(url, timeout=_TIMEOUT_S).status_code in _THERE
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
