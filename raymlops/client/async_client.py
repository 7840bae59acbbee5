"""A client for an event loop: `Client` with `await`."""

from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import urlsplit

import httpx

from raymlops.client.conversation import Conversation, Known, Prediction, metadata, predict, ready
from raymlops.client.rest import AsyncRest
from raymlops.client.rows import Rows
from raymlops.client.rpc import SCHEMES, AsyncRpc
from raymlops.values import JsonValue

__all__ = ["AsyncClient"]

_Result = TypeVar("_Result")


class AsyncClient:
    """Ask an endpoint of the Open Inference Protocol; arguments and errors are those of `Client`."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout_s: float = 30.0,
        binary: bool | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        by_grpc = urlsplit(self.url).scheme in SCHEMES
        self._known = Known(binary=True if by_grpc else binary)
        self._wire: AsyncRpc | AsyncRest = (
            AsyncRpc(self.url, key=key, timeout_s=timeout_s)
            if by_grpc
            else AsyncRest(self.url, key=key, timeout_s=timeout_s, transport=transport)
        )

    async def predict(
        self, name: str, rows: Rows, *, version: str | int | None = None, rows_a_request: int = 1_000
    ) -> Prediction:
        """Return the answers of rows as `Client.predict` does."""
        return await self._held(predict(name, rows, version=version, rows_a_request=rows_a_request, known=self._known))

    async def ready(self, name: str, *, version: str | int | None = None) -> bool:
        """Return whether the model answers; with `version`, whether it does in that version."""
        return await self._held(ready(name, version))

    async def metadata(self, name: str, *, version: str | int | None = None) -> dict[str, JsonValue]:
        """Return what the endpoint says of a model: versions, platform, inputs and outputs."""
        return await self._held(metadata(name, version))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._wire.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _held(self, conversation: Conversation[_Result]) -> _Result:
        try:
            call = next(conversation)
            while True:
                call = conversation.send(await self._wire.send(call))
        except StopIteration as end:
            result: _Result = end.value
            return result
