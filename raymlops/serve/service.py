"""The endpoint as `inference.GRPCInferenceService`: the Open Inference Protocol over gRPC. Knows nothing of HTTP.

Errors are statuses with the same sentences as over HTTP: INVALID_ARGUMENT for what the caller can mend, NOT_FOUND,
UNAUTHENTICATED, UNAVAILABLE; INTERNAL tells nothing but the request's id.
"""

import logging
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

import grpc
import orjson

from raymlops.codec.oip_grpc import parse_request, write_response
from raymlops.codec.oip_messages import SERVICE, message
from raymlops.errors import DataError, NotFound, RaymlopsError, SpecError, Unavailable
from raymlops.serve import describe
from raymlops.serve.endpoint import Endpoint
from raymlops.serve.infer import Asked, Refused, ask, respond, rows_of
from raymlops.serve.models import Model, find
from raymlops.serve.request import fresh_id
from raymlops.values import Float32

__all__ = ["start"]

_OPEN = frozenset({"ServerLive", "ServerReady"})
_MOST_SENTENCE, _MOST_ROWS_BYTES = 3_000, 3_000  # a status travels in headers, of which clients take 8 kB

log = logging.getLogger(__name__)

Handler = Callable[[bytes, Any], Awaitable[bytes]]


async def start(endpoint: Endpoint, *, host: str, port: int, max_bytes: int) -> Any:
    """Return a server that has begun to answer, beside those of other replicas on this node; OSError if it cannot."""
    service = _Service(endpoint)
    server = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", 1),
            ("grpc.max_receive_message_length", max_bytes),
            ("grpc.max_send_message_length", -1),
        ]
    )
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(service.answering(name, handler))
        for name, handler in service.methods().items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        server.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(f"serve.grpc_port: {address} cannot be bound: {error}") from error
    await server.start()
    return server


class _Service:
    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def methods(self) -> dict[str, Handler]:
        """Return what answers each method, bytes in and bytes out."""
        return {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ServerMetadata": self._server,
            "ModelReady": self._model_ready,
            "ModelMetadata": self._model,
            "ModelInfer": self._infer,
            "RepositoryIndex": self._index,
            "RepositoryModelLoad": self._change,
            "RepositoryModelUnload": self._change,
        }

    def answering(self, name: str, handler: Handler) -> Handler:
        """Return a handler that checks the key and turns our errors into statuses."""

        async def answer(body: bytes, context: Any) -> bytes:
            began, sent = perf_counter(), dict(context.invocation_metadata() or ())
            try:
                if name not in _OPEN and not self._endpoint.allows(_key(sent)):
                    text = "a key is needed: send the metadata `authorization: Bearer KEY`"
                    await context.abort(grpc.StatusCode.UNAUTHENTICATED, text)
                return await handler(body, context)
            except RaymlopsError as error:
                if error.http_status == 500:
                    self._log(sent, error)
                await context.abort(_status(error), str(error)[:_MOST_SENTENCE], _rows(error))
            except Exception as error:
                if isinstance(error, grpc.aio.AbortError):
                    raise
                # The border of the process. What it was stands in the log; the caller gets the id to find it by.
                text = f"the server failed to answer; its log has the cause under request {self._log(sent, error)}"
                await context.abort(grpc.StatusCode.INTERNAL, text)
            finally:
                self._endpoint.busy_s += perf_counter() - began
            raise AssertionError("abort raises")

        return answer

    def _log(self, sent: dict[str, Any], error: Exception) -> str:
        id = str(sent.get("x-request-id") or fresh_id())
        trace = str(sent.get("traceparent", ""))
        log.error("request failed", extra={"request": id, "trace": trace}, exc_info=error)
        return id

    async def _infer(self, body: bytes, context: Any) -> bytes:
        began, endpoint = perf_counter(), self._endpoint
        request, raw = parse_request(body)
        model = find(endpoint.models, request.model_name, request.model_version or None)
        status, rows = "500", 0

        def read() -> Asked:
            _check_rows(model, rows_of(request))
            return ask(model, request, id=request.id or fresh_id())

        def write(asked: Asked, y: Float32) -> tuple[int, bytes]:
            return len(y), write_response(respond(asked, y), raw=raw)

        try:
            rows, answer = await endpoint.answer(model, len(body), read, write)
            status = "200"
            return answer
        except RaymlopsError as error:
            status = str(error.http_status)
            raise
        finally:
            endpoint.tally(model).answered(status, perf_counter() - began, rows)

    async def _live(self, body: bytes, context: Any) -> bytes:
        return _written("ServerLiveResponse", live=True)

    async def _ready(self, body: bytes, context: Any) -> bytes:
        return _written("ServerReadyResponse", ready=describe.all_ready(self._endpoint))

    async def _server(self, body: bytes, context: Any) -> bytes:
        return _written("ServerMetadataResponse", **describe.server())

    async def _model_ready(self, body: bytes, context: Any) -> bytes:
        asked = message("ModelReadyRequest").FromString(body)
        said = describe.ready(self._endpoint.models, asked.name, asked.version or None)
        return _written("ModelReadyResponse", ready=said["ready"])

    async def _model(self, body: bytes, context: Any) -> bytes:
        asked = message("ModelMetadataRequest").FromString(body)
        model = find(self._endpoint.models, asked.name, asked.version or None)
        return _written("ModelMetadataResponse", **describe.metadata(model))

    async def _index(self, body: bytes, context: Any) -> bytes:
        asked = message("RepositoryIndexRequest").FromString(body)
        return _written("RepositoryIndexResponse", models=describe.index(self._endpoint.models, only_ready=asked.ready))

    async def _change(self, body: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "models are changed by `raymlops serve`, not by callers")
        raise AssertionError("abort raises")


def _check_rows(model: Model, rows: int) -> None:
    if rows > model.wanted.max_rows:
        raise SpecError(f"inputs: {rows} rows given; at most {model.wanted.max_rows} are allowed, send fewer")


def _rows(error: RaymlopsError) -> tuple[tuple[str, bytes], ...]:
    """Return the trailing metadata of a status: which rows were refused, as over HTTP, as many as clients take."""
    if not isinstance(error, Refused):
        return ()
    shown = [{"row": p.row, "column": p.column, "rule": p.rule, "value": p.value} for p in error.refusals]
    while len(made := orjson.dumps(shown)) > _MOST_ROWS_BYTES:
        shown = shown[: len(shown) // 2]
    return (("problems-bin", made),)


def _key(sent: dict[str, Any]) -> str:
    scheme, _, key = str(sent.get("authorization", "")).partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _status(error: RaymlopsError) -> grpc.StatusCode:
    if isinstance(error, SpecError | DataError):
        return grpc.StatusCode.INVALID_ARGUMENT
    if isinstance(error, NotFound):
        return grpc.StatusCode.NOT_FOUND
    if isinstance(error, Unavailable):
        return grpc.StatusCode.DEADLINE_EXCEEDED if error.http_status == 504 else grpc.StatusCode.UNAVAILABLE
    return grpc.StatusCode.INTERNAL


def _written(name: str, /, **fields: Any) -> bytes:
    return bytes(message(name)(**fields).SerializeToString())
