"""The endpoint as an ASGI application: the Open Inference Protocol over HTTP. Knows nothing of Ray.

Bad input gets a 4xx with a JSON body that names the field and the rule. A 500 is a fault of the server, is logged
with the request's id, and tells the caller nothing but that id.
"""

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version
from uuid import uuid4

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from raymlops.codec import InferRequest, parse_request, write_response
from raymlops.contract import Contract
from raymlops.errors import RaymlopsError
from raymlops.serve.infer import Refused, infer, input_tensors, output_tensors, rows_of
from raymlops.serve.models import Model, Models, find
from raymlops.values import JsonValue

__all__ = ["MOST_BYTES", "build"]

MOST_BYTES = 64 * 2**20
_INLINE_BYTES = 64 * 2**10  # a body up to this is answered in the event loop: a thread's hop costs more than it saves
_MOST_PROBLEMS = 20

log = logging.getLogger(__name__)

_Handler = Callable[[Request], Awaitable[Response]]


def build(models: Models, *, keys: frozenset[str] = frozenset(), max_bytes: int = MOST_BYTES) -> Starlette:
    """Return the application of these models, and only these: a new version makes a new application.

    With `keys` everything but health needs `Authorization: Bearer KEY`. A body over `max_bytes`, or with more rows
    than its model allows, gets 413.
    """

    async def server(request: Request) -> Response:
        return _json({"name": "raymlops", "version": _version(), "extensions": []})

    async def live(request: Request) -> Response:
        return _json({"live": True})

    async def ready(request: Request) -> Response:
        up = bool(models.loaded) and not models.failed
        return _json({"ready": up}, status=200 if up else 503)

    async def model(request: Request) -> Response:
        return _json(_metadata(_found(models, request)))

    async def model_ready(request: Request) -> Response:
        return _ready(models, request)

    async def answer(request: Request) -> Response:
        found = _found(models, request)
        body = await _body(request, max_bytes)
        if len(body) <= _INLINE_BYTES:
            return _answered(found, body, request)
        return await asyncio.to_thread(_answered, found, body, request)

    open_paths = {"/v2/health/live": live, "/v2/health/ready": ready}
    shut = {"/v2": server}
    for prefix in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        shut |= {prefix: model, f"{prefix}/ready": model_ready}
    guard = _guard(frozenset(key.encode() for key in keys))
    routes = [Route(path, _answering(handler), methods=["GET"]) for path, handler in open_paths.items()]
    routes += [Route(path, _answering(guard(handler)), methods=["GET"]) for path, handler in shut.items()]
    routes += [
        Route(f"{prefix}/infer", _answering(guard(answer)), methods=["POST"])
        for prefix in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _http_error})


def _version() -> str:
    try:
        return version("raymlops")
    except PackageNotFoundError:
        return "unknown"


def _guard(keys: frozenset[bytes]) -> Callable[[_Handler], _Handler]:
    def guarded(handler: _Handler) -> _Handler:
        async def checked(request: Request) -> Response:
            scheme, _, given = request.headers.get("authorization", "").partition(" ")
            # Every key is compared, each in constant time: how long it takes says nothing of which is near.
            same = [hmac.compare_digest(given.strip().encode("latin-1"), key) for key in keys]
            if scheme.lower() != "bearer" or not any(same):
                raise HTTPException(
                    401,
                    "a key is needed: send the header `Authorization: Bearer KEY`",
                    headers={"WWW-Authenticate": "Bearer"},
                )
            return await handler(request)

        return checked if keys else handler

    return guarded


def _answering(handler: _Handler) -> _Handler:
    """Turn our errors into answers, and put the request's id on every answer."""

    async def answering(request: Request) -> Response:
        request.state.id = _sent_id(request) or uuid4().hex
        try:
            response = await handler(request)
        except RaymlopsError as error:
            if error.http_status >= 500:
                log.error("request failed", extra={"request": request.state.id}, exc_info=error)
            response = _json(_problem(error), status=error.http_status)
        except HTTPException as error:
            response = await _http_error(request, error)
        except ClientDisconnect:
            response = _json({"error": "the caller has gone"}, status=400)
        except Exception as error:
            # The border of the process. What it was stands in the log; the caller gets the id to find it by.
            log.error("request failed", extra={"request": request.state.id}, exc_info=error)
            text = f"the server failed to answer; its log has the cause under request {request.state.id}"
            response = _json({"error": text}, status=500)
        response.headers["X-Request-Id"] = request.state.id
        return response

    return answering


def _sent_id(request: Request) -> str | None:
    sent = request.headers.get("x-request-id", "")
    return sent if 0 < len(sent) <= 128 and _printable(sent) else None


def _printable(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _problem(error: RaymlopsError) -> JsonValue:
    body: dict[str, JsonValue] = {"error": str(error)}
    if isinstance(error, Refused):
        shown = error.refusals[:_MOST_PROBLEMS]
        body["problems"] = [{"row": p.row, "column": p.column, "rule": p.rule, "value": p.value} for p in shown]
        body["count"] = len(error.refusals)
    return body


def _found(models: Models, request: Request) -> Model:
    return find(models, request.path_params["name"], request.path_params.get("version"))


def _metadata(model: Model) -> JsonValue:
    contract: Contract = model.contract
    return {
        "name": model.wanted.name,
        "versions": [str(model.wanted.number)],
        "platform": f"raymlops_{model.engine}",
        "inputs": [{"name": name, "datatype": kind, "shape": [-1]} for name, kind in input_tensors(contract)],
        "outputs": [{"name": name, "datatype": kind, "shape": [-1]} for name, kind in output_tensors(contract)],
    }


def _ready(models: Models, request: Request) -> Response:
    name, number = request.path_params["name"], request.path_params.get("version")
    failed = {str(n): text for (failed_name, n), text in models.failed.items() if failed_name == name}
    if number in failed or (failed and name not in models.loaded):
        why = failed.get(number or "") or next(iter(failed.values()))
        return _json({"name": name, "ready": False, "error": why}, status=503)
    model = _found(models, request)
    return _json(
        {
            "name": name,
            "ready": True,
            "version": str(model.wanted.number),
            "parameters": {
                "digest": model.wanted.digest,
                "choice": model.wanted.choice,
                "engine": model.engine,
                "variant": model.variant,
            },
        }
    )


async def _body(request: Request, most: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise HTTPException(413, f"body: more than the allowed {most} bytes; send fewer rows a request")
        parts.append(part)
    return b"".join(parts)


def _answered(model: Model, body: bytes, request: Request) -> Response:
    parsed: InferRequest = parse_request(body)
    rows = rows_of(parsed)
    if rows > model.wanted.max_rows:
        raise HTTPException(413, f"inputs: {rows} rows given; at most {model.wanted.max_rows} are allowed, send fewer")
    if parsed.id and _sent_id(request) is None and len(parsed.id) <= 128 and _printable(parsed.id):
        request.state.id = parsed.id
    response = infer(model, parsed, request_id=parsed.id or request.state.id)
    body, _ = write_response(response)
    return Response(body, media_type="application/json")


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = _json({"error": error.detail}, status=error.status_code)
    response.headers.update(error.headers or {})
    return response


def _json(value: JsonValue, *, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status_code=status, media_type="application/json")
