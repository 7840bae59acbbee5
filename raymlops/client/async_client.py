"""A client for an event loop: `Client` with `await`."""

import asyncio
from types import TracebackType
from typing import Self, TypeVar

import httpx

from raymlops.client.conversation import Call, Conversation, Features, Prediction, Reply, metadata, predict, ready
from raymlops.client.rows import Rows
from raymlops.client.transport import headers, past_proxies, pause_s, unreachable
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
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self.timeout_s = timeout_s
        self._key = key
        self._features: Features = {}
        self._http = httpx.AsyncClient(timeout=timeout_s, transport=transport, trust_env=not past_proxies(url))

    async def predict(
        self, name: str, rows: Rows, *, version: str | int | None = None, rows_a_request: int = 1_000
    ) -> Prediction:
        """Return the answers of rows as `Client.predict` does."""
        return await self._held(
            predict(name, rows, version=version, rows_a_request=rows_a_request, known=self._features)
        )

    async def ready(self, name: str, *, version: str | int | None = None) -> bool:
        """Return whether the model answers; with `version`, whether it does in that version."""
        return await self._held(ready(name, version))

    async def metadata(self, name: str, *, version: str | int | None = None) -> dict[str, JsonValue]:
        """Return what the endpoint says of a model: versions, platform, inputs and outputs."""
        return await self._held(metadata(name, version))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

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
                call = conversation.send(await self._sent(call))
        except StopIteration as end:
            result: _Result = end.value
            return result

    async def _sent(self, call: Call) -> Reply:
        method = "GET" if call.body is None else "POST"
        sent = headers(self._key, body=call.body is not None)
        tries = 0
        while True:
            tries += 1
            try:
                response = await self._http.request(method, self.url + call.path, content=call.body, headers=sent)
            except httpx.TransportError as error:
                wait = pause_s(tries, error)
                if wait is None:
                    raise unreachable(self.url, error, timeout_s=self.timeout_s) from error
            else:
                wait = pause_s(tries, response.status_code)
                if wait is None:
                    return Reply(status=response.status_code, body=response.content)
            await asyncio.sleep(wait)
