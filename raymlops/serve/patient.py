"""uvicorn's HTTP connection with an end to its patience. Knows nothing of what is asked.

uvicorn waits for ever for the rest of a request, and takes a head of any size. Here both are bounded, by one look at
all connections each second, so that a request pays nothing for it.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["PATIENCE_S", "Patient", "look_after"]

PATIENCE_S = 30.0  # for a request to come, from its first byte, or from the connection if there is none
_MOST_HEAD = 64 * 2**10
_LOOK_EVERY_S = 1.0


class Patient(HttpToolsProtocol):
    """A connection that knows since when a request has been coming."""

    coming_since: float | None = None
    _head: int = 0

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self.coming_since = self.loop.time()

    def on_message_begin(self) -> None:
        """Begin to wait for the rest of a request."""
        super().on_message_begin()
        self.coming_since = self.loop.time()
        self._head = 1

    def on_headers_complete(self) -> None:
        """Stop to count the bytes of the head."""
        super().on_headers_complete()
        self._head = 0

    def on_message_complete(self) -> None:
        """Stop to wait: it is our turn."""
        super().on_message_complete()
        self.coming_since = None

    def data_received(self, data: bytes) -> None:
        """Take what came, unless it is a head without an end."""
        super().data_received(data)
        if self._head:
            self._head += len(data)
            if self._head > _MOST_HEAD:
                self.refuse(431, "Request Header Fields Too Large", f"headers: more than {_MOST_HEAD} bytes")

    def refuse(self, status: int, phrase: str, text: str) -> None:
        """Answer a request that has not come whole, and close."""
        in_head, self.coming_since, self._head = bool(self._head), None, 0
        if self.transport.is_closing():
            return
        if not in_head and self.cycle and self.cycle.response_started:
            self.transport.close()  # it was refused by its head, and has its answer
            return
        body = orjson.dumps({"error": text})
        head = f"HTTP/1.1 {status} {phrase}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(f"{head}connection: close\r\n\r\n".encode() + body)
        self.transport.close()


async def look_after(connections: Iterable[Any], *, patience_s: float = PATIENCE_S) -> None:
    """Refuse, once a second and for ever, what has been coming for longer than `patience_s`."""
    clock = asyncio.get_running_loop().time
    while True:
        await asyncio.sleep(_LOOK_EVERY_S)
        late = clock() - patience_s
        for connection in [*connections]:
            if connection.coming_since is not None and connection.coming_since < late:
                text = f"request: did not come within {patience_s:g} s"
                connection.refuse(408, "Request Timeout", text)
