"""Calls over gRPC: as messages of `inference.GRPCInferenceService`, and what comes back as replies.

grpcio is imported only for an address that asks for it.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import orjson
import pyarrow as pa

from raymlops.client.conversation import Call, Infer, Metadata, Problem, Ready, Reply, Server
from raymlops.client.retry import pause_s, silent, unreachable
from raymlops.codec import Tensor
from raymlops.errors import DataError, NotFound, RaymlopsError, SpecError, StageFailed

__all__ = ["SCHEMES", "AsyncRpc", "Rpc"]

SCHEMES = ("grpc", "grpcs")  # without and with TLS, by the roots of this machine
_METHODS = {Server: "ServerMetadata", Ready: "ModelReady", Metadata: "ModelMetadata", Infer: "ModelInfer"}
_ERRORS: Mapping[str, type[RaymlopsError]] = {
    "INVALID_ARGUMENT": SpecError,
    "NOT_FOUND": NotFound,
    "UNAUTHENTICATED": SpecError,
    "RESOURCE_EXHAUSTED": SpecError,
}
_OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.enable_retries", 0))


class Rpc:
    """Sends calls and waits for each."""

    def __init__(self, url: str, *, key: str | None, timeout_s: float) -> None:
        import grpc

        self._to = _Address(url=url, key=key, timeout_s=timeout_s)
        made = grpc.secure_channel if self._to.is_secure else grpc.insecure_channel
        self._channel = made(self._to.target, *self._to.credentials(), options=_OPTIONS)

    def send(self, call: Call) -> Reply:
        """Return what the endpoint replies; raise Unavailable when it does not."""
        import grpc

        method, body, tries = *_written(call), 0
        while True:
            tries += 1
            try:
                return _read(call, self._channel.unary_unary(method)(body, **self._to.words()))
            except grpc.RpcError as error:
                wait, problem = self._to.after(error, tries)
            if problem is not None:
                return problem
            time.sleep(wait)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


class AsyncRpc:
    """Sends calls from an event loop."""

    def __init__(self, url: str, *, key: str | None, timeout_s: float) -> None:
        import grpc

        self._to = _Address(url=url, key=key, timeout_s=timeout_s)
        made = grpc.aio.secure_channel if self._to.is_secure else grpc.aio.insecure_channel
        self._channel = made(self._to.target, *self._to.credentials(), options=_OPTIONS)

    async def send(self, call: Call) -> Reply:
        """Return what the endpoint replies; raise Unavailable when it does not."""
        import grpc

        method, body, tries = *_written(call), 0
        while True:
            tries += 1
            try:
                return _read(call, await self._channel.unary_unary(method)(body, **self._to.words()))
            except grpc.RpcError as error:
                wait, problem = self._to.after(error, tries)
            if problem is not None:
                return problem
            await asyncio.sleep(wait)

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Address:
    url: str
    key: str | None
    timeout_s: float

    @property
    def target(self) -> str:
        return urlsplit(self.url).netloc

    @property
    def is_secure(self) -> bool:
        return urlsplit(self.url).scheme == "grpcs"

    def credentials(self) -> tuple[Any, ...]:
        import grpc

        return (grpc.ssl_channel_credentials(),) if self.is_secure else ()

    def words(self) -> dict[str, Any]:
        """Return what goes beside a message."""
        sent = (("authorization", f"Bearer {self.key}"),) if self.key is not None else ()
        return {"metadata": sent, "timeout": self.timeout_s}

    def after(self, error: Any, tries: int) -> tuple[float, Problem | None]:
        """Return how long to wait after a call that failed, or what it came to; raise Unavailable for silence."""
        code, said = error.code().name, error.details() or ""
        if code == "DEADLINE_EXCEEDED":
            raise silent(self.url, timeout_s=self.timeout_s) from error
        if code == "UNAVAILABLE":
            wait = pause_s(tries, passes=True)
            if wait is None:
                raise unreachable(self.url, said) from error
            return wait, None
        trailing = dict(error.trailing_metadata() or ())
        rows = orjson.loads(trailing.get("problems-bin", b"[]"))
        kind = DataError if rows else _ERRORS.get(code, StageFailed)
        return 0.0, Problem(kind=kind, text=said or f"status {code}", rows=rows)


def _written(call: Call) -> tuple[str, bytes]:
    from raymlops.codec.oip_grpc import write_request
    from raymlops.codec.oip_messages import SERVICE, message

    name = _METHODS[type(call)]
    method = f"/{SERVICE}/{name}"
    if isinstance(call, Server):
        return method, message("ServerMetadataRequest")().SerializeToString()
    version = "" if call.version is None else str(call.version)
    if isinstance(call, Infer):
        inputs = tuple(_without_nulls(tensor) for tensor in call.request.inputs)
        request = replace(call.request, inputs=inputs, model_name=call.name, model_version=version, parameters={})
        return method, write_request(request)
    return method, message(f"{name}Request")(name=call.name, version=version).SerializeToString()


def _without_nulls(tensor: Tensor) -> Tensor:
    """Return whole numbers with nulls as floats, whose NaN is one; raise DataError for what gRPC has no null of."""
    if not tensor.data.null_count or pa.types.is_floating(tensor.data.type):
        return tensor
    if not pa.types.is_integer(tensor.data.type):
        raise DataError(
            f"column {tensor.name!r}: missing values of {tensor.datatype} cannot go by gRPC; ask by http://"
        )
    return Tensor(name=tensor.name, shape=tensor.shape, datatype="FP64", data=tensor.data.cast(pa.float64()))


def _read(call: Call, body: bytes) -> Reply:
    from google.protobuf.json_format import MessageToDict
    from google.protobuf.message import DecodeError

    from raymlops.codec.oip_grpc import parse_response
    from raymlops.codec.oip_messages import message

    try:
        if isinstance(call, Infer):
            return parse_response(body)
        made = message(f"{_METHODS[type(call)]}Response").FromString(body)
    except (SpecError, DecodeError) as error:
        return Problem(kind=StageFailed, text=f"the endpoint's answer is not of the Open Inference Protocol: {error}")
    if isinstance(call, Ready):
        return bool(made.ready)
    told: dict[str, Any] = MessageToDict(made, preserving_proto_field_name=True)
    for tensor in (*told.get("inputs", ()), *told.get("outputs", ())):
        tensor["shape"] = [int(size) for size in tensor.get("shape", ())]  # JSON of 64 bits is text
    return told
