"""The endpoint as an ASGI application: the Open Inference Protocol over HTTP. Knows nothing of Ray or of the server.

Bad input gets a 4xx with a JSON body that names the field and the rule. A 500 is a fault of the server, is logged
with the request's id, and tells the caller nothing but that id. No framework lies between: one request of one row is
some tens of microseconds here, and a router with its middleware costs as much again.
"""

import asyncio
import logging
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from time import perf_counter
from typing import Any

import orjson

from raymlops.codec import parse_plain, parse_request, write_response
from raymlops.errors import RaymlopsError, SpecError
from raymlops.serve import describe
from raymlops.serve.endpoint import Endpoint
from raymlops.serve.infer import Asked, Refused, ask, ask_plain, predict, respond, respond_plain, rows_of
from raymlops.serve.metrics import Meter
from raymlops.serve.models import Model, Models, find
from raymlops.serve.request import MOST_ID, Failed, Head, Receive, Route, Send, fresh_id, read_body, read_head, route
from raymlops.values import Float32, JsonValue

__all__ = ["MOST_BYTES", "App", "build"]

MOST_BYTES = 64 * 2**20
_MOST_PROBLEMS = 20
_JSON = (b"content-type", b"application/json")
_OPEN = frozenset({"live", "ready"})

log = logging.getLogger(__name__)

Headers = list[tuple[bytes, bytes]]
Reply = tuple[int, Headers, bytes]


class App:
    """Speaks HTTP for an endpoint. A body over `max_bytes`, or with more rows than its model allows, gets 413.

    With keys everything but health needs `Authorization: Bearer KEY`.
    """

    def __init__(self, endpoint: Endpoint, *, max_bytes: int = MOST_BYTES) -> None:
        self._endpoint, self._max_bytes = endpoint, max_bytes

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']}: only http is spoken here")
        began = perf_counter()
        head = read_head(scope["headers"])
        status, headers, body = await self._reply(scope, head, receive)
        headers += [(b"content-length", b"%d" % len(body)), (b"x-request-id", head.id.encode())]
        if head.trace:
            headers.append((b"traceparent", head.trace))
        if self._endpoint.closing:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        self._endpoint.busy_s += perf_counter() - began

    async def _reply(self, scope: Any, head: Head, receive: Receive) -> Reply:
        """Return the answer, or what is wrong with the request or with us, as an answer."""
        try:
            return await self._routed(scope, head, receive)
        except Failed as failed:
            status, headers, text = failed.status, failed.headers, str(failed)
        except RaymlopsError as error:
            if error.http_status >= 500:
                self._log(head, error)
            head.id = head.id or fresh_id()
            return error.http_status, [_JSON], orjson.dumps(_problem(error))
        except Exception as error:  # noqa: BLE001 - the border of the process
            # What it was stands in the log; the caller gets the id to find it by.
            self._log(head, error)
            status, headers = 500, []
            text = f"the server failed to answer; its log has the cause under request {head.id}"
        head.id = head.id or fresh_id()
        return status, [_JSON, *headers], orjson.dumps({"error": text})

    def _log(self, head: Head, error: Exception) -> None:
        head.id = head.id or fresh_id()
        log.error("request failed", extra={"request": head.id, "trace": head.trace.decode("latin-1")}, exc_info=error)

    async def _routed(self, scope: Any, head: Head, receive: Receive) -> Reply:
        asked = route(scope["path"])
        if asked is None:
            raise Failed(404, f"{scope['path'][:200]!r}: nothing is there; /openapi.json lists what is")
        if asked.kind not in _OPEN and not self._endpoint.allows(head.key):
            wanted = (b"www-authenticate", b"Bearer")
            raise Failed(401, "a key is needed: send the header `Authorization: Bearer KEY`", [wanted])
        if scope["method"] != asked.method:
            allowed = (b"allow", asked.method.encode())
            raise Failed(405, f"{scope['method'][:20]}: {asked.method} is needed there", [allowed])
        if asked.kind == "infer":
            return await self._infer(asked, head, receive)
        head.id = head.id or fresh_id()
        if asked.kind == "metrics":
            self._endpoint.meter.save()
            page = await asyncio.to_thread(self._endpoint.meter.page)
            return 200, [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")], page
        if asked.kind == "openapi":
            return 200, [_JSON], _openapi()
        body = await read_body(head, receive, self._max_bytes) if asked.kind == "index" else b""
        value = self._described(asked, body)
        unready = isinstance(value, dict) and value.get("ready") is False
        return 503 if unready else 200, [_JSON], orjson.dumps(value)

    def _described(self, asked: Route, body: bytes) -> JsonValue:
        models = self._endpoint.models
        if asked.kind == "server":
            return describe.server()
        if asked.kind == "live":
            return {"live": True}
        if asked.kind == "ready":
            return {"ready": describe.all_ready(self._endpoint)}
        if asked.kind == "index":
            return describe.index(models, only_ready=_only_ready(body))
        if asked.kind == "model_ready":
            return describe.ready(models, asked.name, asked.version)
        return describe.metadata(find(models, asked.name, asked.version))

    async def _infer(self, route: Route, head: Head, receive: Receive) -> Reply:
        began, endpoint = perf_counter(), self._endpoint
        model = find(endpoint.models, route.name, route.version)
        status, rows = "500", 0
        try:
            with endpoint.expecting(model):
                body = await read_body(head, receive, self._max_bytes)
            if endpoint.at_once(model, len(body)):
                asked = _read(model, body, head)
                rows, reply = _written(asked, predict(model, asked.x))
            else:
                rows, reply = await endpoint.answer(model, len(body), lambda: _read(model, body, head), _written)
            status = "200"
            return reply
        except Failed as failed:
            status = str(failed.status)
            raise
        except RaymlopsError as error:
            status = str(error.http_status)
            raise
        finally:
            endpoint.tally(model).answered(status, perf_counter() - began, rows)


def build(
    models: Models, *, keys: frozenset[str] = frozenset(), max_bytes: int = MOST_BYTES, meter: Meter | None = None
) -> App:
    """Return the application of these models, without a server."""
    endpoint = Endpoint(meter or Meter())
    endpoint.serve(models, keys)
    return App(endpoint, max_bytes=max_bytes)


def _read(model: Model, body: bytes, head: Head) -> Asked:
    plain = parse_plain(body) if head.json_length is None else None
    if plain is not None:
        _check_rows(model, plain.inputs[0].shape[0])
        _name(head, plain.id)
        asked = ask_plain(model, plain, id=plain.id or head.id)
        if asked is not None:
            return asked
    parsed = parse_request(body, head.json_length)
    _check_rows(model, rows_of(parsed))
    _name(head, parsed.id)
    return ask(model, parsed, id=parsed.id or head.id)


def _written(asked: Asked, y: Float32) -> tuple[int, Reply]:
    """Return the number of rows and the reply; outputs that are wanted as binary data lie behind the JSON."""
    if asked.request is None:
        return len(y), (200, [_JSON], respond_plain(asked, y))
    body, json_length = write_response(respond(asked, y), binary=asked.request.wants_binary)
    if json_length is None:
        return len(y), (200, [_JSON], body)
    length = (b"inference-header-content-length", b"%d" % json_length)
    return len(y), (200, [(b"content-type", b"application/octet-stream"), length], body)


def _check_rows(model: Model, rows: int) -> None:
    if rows > model.wanted.max_rows:
        raise Failed(413, f"inputs: {rows} rows given; at most {model.wanted.max_rows} are allowed, send fewer")


def _name(head: Head, id: str | None) -> None:
    """Give the request its id: that of the header, else of the body, else a new one."""
    if not head.id:
        known = id and len(id) <= MOST_ID and id.isascii() and id.isprintable()
        head.id = id if id and known else fresh_id()


def _only_ready(body: bytes) -> bool:
    if not body:
        return False
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise SpecError(f"body: is not JSON: {error}") from error
    wanted = value.get("ready", False) if isinstance(value, dict) else None
    if not isinstance(wanted, bool):
        raise SpecError("body: an object is needed, with `ready` true or false if it is given")
    return wanted


def _problem(error: RaymlopsError) -> JsonValue:
    body: dict[str, JsonValue] = {"error": str(error)}
    if isinstance(error, Refused):
        shown: Iterable[Any] = error.refusals[:_MOST_PROBLEMS]
        body["problems"] = [{"row": p.row, "column": p.column, "rule": p.rule, "value": p.value} for p in shown]
        body["count"] = len(error.refusals)
    return body


@cache
def _openapi() -> bytes:
    import yaml

    return orjson.dumps(yaml.safe_load(files("raymlops.serve").joinpath("openapi.yaml").read_bytes()))
