"""A client that blocks. Safe to share between threads."""

import time
from types import TracebackType
from typing import Self, TypeVar

import httpx

from raymlops.client.conversation import Call, Conversation, Features, Prediction, Reply, metadata, predict, ready
from raymlops.client.rows import Rows
from raymlops.client.transport import headers, past_proxies, pause_s, unreachable
from raymlops.values import JsonValue

__all__ = ["Client"]

_Result = TypeVar("_Result")


class Client:
    """Ask an endpoint of the Open Inference Protocol; `key` is its API key, `timeout_s` holds for each request.

    Every method raises Unavailable when the endpoint does not answer, NotFound for a model it does not serve, and
    SpecError when it refuses the key. A prediction changes nothing, so it may be asked again at will.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout_s: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self.timeout_s = timeout_s
        self._key = key
        self._features: Features = {}
        self._http = httpx.Client(timeout=timeout_s, transport=transport, trust_env=not past_proxies(url))

    def predict(
        self, name: str, rows: Rows, *, version: str | int | None = None, rows_a_request: int = 1_000
    ) -> Prediction:
        """Return the answers of rows, in their order and all by one version.

        Columns that the model does not know are left out; what a row lacks is sent as missing. Raise DataError with
        row, column and rule for each value that breaks the model's contract.
        """
        return self._held(predict(name, rows, version=version, rows_a_request=rows_a_request, known=self._features))

    def ready(self, name: str, *, version: str | int | None = None) -> bool:
        """Return whether the model answers; with `version`, whether it does in that version."""
        return self._held(ready(name, version))

    def metadata(self, name: str, *, version: str | int | None = None) -> dict[str, JsonValue]:
        """Return what the endpoint says of a model: versions, platform, inputs and outputs."""
        return self._held(metadata(name, version))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _held(self, conversation: Conversation[_Result]) -> _Result:
        try:
            call = next(conversation)
            while True:
                call = conversation.send(self._sent(call))
        except StopIteration as end:
            result: _Result = end.value
            return result

    def _sent(self, call: Call) -> Reply:
        method = "GET" if call.body is None else "POST"
        sent = headers(self._key, body=call.body is not None)
        tries = 0
        while True:
            tries += 1
            try:
                response = self._http.request(method, self.url + call.path, content=call.body, headers=sent)
            except httpx.TransportError as error:
                wait = pause_s(tries, error)
                if wait is None:
                    raise unreachable(self.url, error, timeout_s=self.timeout_s) from error
            else:
                wait = pause_s(tries, response.status_code)
                if wait is None:
                    return Reply(status=response.status_code, body=response.content)
            time.sleep(wait)
