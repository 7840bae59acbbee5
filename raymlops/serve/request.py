"""One HTTP request as ASGI gives it: its path, the headers that matter here, its body. Knows no model."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from secrets import token_hex
from typing import Any

__all__ = [
    "MOST_ID",
    "Failed",
    "Head",
    "Message",
    "Receive",
    "Route",
    "Send",
    "fresh_id",
    "read_body",
    "read_head",
    "route",
]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_MOST_PATH = 1_000
MOST_ID = 128
_MATTER = frozenset({
    b"content-length", b"x-request-id", b"authorization", b"traceparent", b"inference-header-content-length",
    b"content-encoding",
})  # fmt: skip
_KINDS = {
    ("v2",): "server",
    ("v2", "health", "live"): "live",
    ("v2", "health", "ready"): "ready",
    ("v2", "repository", "index"): "index",
    ("metrics",): "metrics",
    ("openapi.json",): "openapi",
}
_OF_A_MODEL = {(): "model", ("ready",): "model_ready", ("infer",): "infer"}


@dataclass(frozen=True, slots=True)
class Route:
    """What a path asks for, and of which model and version."""

    kind: str
    name: str = ""
    version: str | None = None

    @property
    def method(self) -> str:
        """The one method that the path takes."""
        return "POST" if self.kind in ("infer", "index") else "GET"


@dataclass(slots=True)
class Head:
    """The headers that matter: ``length`` of the body if it was said, ``json_length`` of its part before binary data.

    ``trace`` is the W3C trace context, carried through to the answer and to what is logged.
    """

    id: str = ""
    key: str = ""
    trace: bytes = b""
    length: int = -1
    json_length: str | None = None
    encoding: bytes = b""


class Failed(Exception):  # noqa: N818 - reads as what happened
    """A request that HTTP itself refuses: a status, a sentence, headers."""

    def __init__(self, status: int, text: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(text)
        self.status, self.headers = status, [*headers]


def route(path: str) -> Route | None:
    """Return what a path asks for, None if nothing is there."""
    # Paths come from anywhere: only short ones are remembered.
    return _route(path) if len(path) <= _MOST_PATH else None


@lru_cache(maxsize=1024)
def _route(path: str) -> Route | None:
    words = tuple(path.removesuffix("/").split("/")[1:])
    if words in _KINDS:
        return Route(_KINDS[words])
    if len(words) < 3 or words[:2] != ("v2", "models"):
        return None
    name, version, rest = words[2], None, words[3:]
    if len(rest) >= 2 and rest[0] == "versions":
        version, rest = rest[1], rest[2:]
    kind = _OF_A_MODEL.get(rest)
    return Route(kind, name, version) if kind else None


def read_head(headers: Iterable[tuple[bytes, bytes]]) -> Head:
    """Return the headers that matter; uvicorn gives their names in lower case."""
    head = Head()
    for name, value in headers:
        if name not in _MATTER:
            continue
        if name == b"content-length":
            head.length = int(value) if value.isdigit() else -1
        elif name == b"x-request-id":
            head.id = _as_id(value)
        elif name == b"authorization":
            scheme, _, key = value.partition(b" ")
            head.key = key.strip().decode("latin-1") if scheme.lower() == b"bearer" else ""
        elif name == b"traceparent":
            head.trace = value if len(value) <= MOST_ID else b""
        elif name == b"inference-header-content-length":
            head.json_length = value.decode("latin-1")
        elif name == b"content-encoding":
            head.encoding = value.lower()
    return head


async def read_body(head: Head, receive: Receive, most: int) -> bytes:
    """Return the body; Failed 413 when it is over `most` bytes, 415 when it is packed, 400 when it ends."""
    if head.encoding not in (b"", b"identity"):
        raise Failed(415, f"content-encoding: {head.encoding.decode('latin-1')!r:.40} given; send the body as it is")
    if head.length > most:
        raise _too_long(most)
    message = await receive()
    if not message.get("more_body", False) and message["type"] == "http.request":
        body: bytes = message.get("body", b"")
        if len(body) > most:
            raise _too_long(most)
        return body
    return await _rest(message, receive, most)


async def _rest(message: Message, receive: Receive, most: int) -> bytes:
    parts, size = [], 0
    while message["type"] != "http.disconnect":
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            raise _too_long(most)
        if not message.get("more_body", False):
            return b"".join(parts)
        message = await receive()
    raise Failed(400, "body: the caller has gone")


def _too_long(most: int) -> Failed:
    text = f"body: more than the allowed {most} bytes; send fewer rows a request"
    return Failed(413, text, [(b"connection", b"close")])


_HERE, _NUMBERS = token_hex(8), count(1)


def fresh_id() -> str:
    """Return an id that no other request has."""
    return f"{_HERE}-{next(_NUMBERS):x}"


def _as_id(value: bytes) -> str:
    text = value.decode("latin-1")
    return text if 0 < len(text) <= MOST_ID and text.isascii() and text.isprintable() else ""
