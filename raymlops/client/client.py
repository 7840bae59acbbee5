"""A client that blocks. Safe to share between threads."""

from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import urlsplit

import httpx

from raymlops.client.conversation import Conversation, Known, Prediction, metadata, predict, ready
from raymlops.client.rest import Rest
from raymlops.client.rows import Rows
from raymlops.client.rpc import SCHEMES, Rpc
from raymlops.values import JsonValue

__all__ = ["Client"]

_Result = TypeVar("_Result")


class Client:
    """Ask an endpoint of the Open Inference Protocol; `key` is its API key, `timeout_s` holds for each request.

    `url` is http:// or https://, or grpc:// or grpcs://, which is gRPC without or with TLS. Over HTTP numbers travel as
    bytes where the server says that it knows them; `binary` decides that by itself. Every method raises Unavailable
    when the endpoint does not answer, NotFound for a model it does not serve, and SpecError when it refuses the key. A
    prediction changes nothing, so it may be asked again at will.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout_s: float = 30.0,
        binary: bool | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        by_grpc = urlsplit(self.url).scheme in SCHEMES
        self._known = Known(binary=True if by_grpc else binary)
        self._wire: Rpc | Rest = (
            Rpc(self.url, key=key, timeout_s=timeout_s)
            if by_grpc
            else Rest(self.url, key=key, timeout_s=timeout_s, transport=transport)
        )

    def predict(
        self, name: str, rows: Rows, *, version: str | int | None = None, rows_a_request: int = 1_000
    ) -> Prediction:
        """Return the answers of rows, in their order and all by one version.

        Columns that the model does not know are left out; what a row lacks is sent as missing. Raise DataError with
        row, column and rule for each value that breaks the model's contract.
        """
        return self._held(predict(name, rows, version=version, rows_a_request=rows_a_request, known=self._known))

    def ready(self, name: str, *, version: str | int | None = None) -> bool:
        """Return whether the model answers; with `version`, whether it does in that version."""
        return self._held(ready(name, version))

    def metadata(self, name: str, *, version: str | int | None = None) -> dict[str, JsonValue]:
        """Return what the endpoint says of a model: versions, platform, inputs and outputs."""
        return self._held(metadata(name, version))

    def close(self) -> None:
        """Close the connections."""
        self._wire.close()

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
                call = conversation.send(self._wire.send(call))
        except StopIteration as end:
            result: _Result = end.value
            return result
