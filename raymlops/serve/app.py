"""The endpoint as an ASGI application: the Open Inference Protocol over HTTP. Knows nothing of Ray or of the server.

Bad input gets a 4xx with a JSON body that names the field and the rule. A 500 is a fault of the server, is logged
with the request's id, and tells the caller nothing but that id. No framework lies between: one request of one row is
some tens of microseconds here, and a router with its middleware costs as much again.
"""

import asyncio
import hmac
import logging
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from time import perf_counter
from typing import Any

import orjson

from raymlops.codec import parse_plain, parse_request, write_response
from raymlops.errors import RaymlopsError, SpecError, Unavailable
from raymlops.serve import describe
from raymlops.serve.infer import Refused, infer, infer_plain, rows_of
from raymlops.serve.metrics import Meter
from raymlops.serve.models import Model, Models, find
from raymlops.serve.request import MOST_ID, Failed, Head, Receive, Route, Send, fresh_id, read_body, read_head, route
from raymlops.values import JsonValue

__all__ = ["MOST_BYTES", "App", "build"]

MOST_BYTES = 64 * 2**20
_INLINE_BYTES = 64 * 2**10  # a body up to this is answered in the event loop: a thread's hop costs more than it saves
_INLINE_S = 2e-3  # a model that takes longer is asked in a thread, so that others do not wait for it
_MOST_THREADED = 256  # requests in threads or waiting for one; above, the caller is told to come again
_MOST_PROBLEMS = 20
_JSON = (b"content-type", b"application/json")
_OPEN = frozenset({"live", "ready"})

log = logging.getLogger(__name__)

Headers = list[tuple[bytes, bytes]]
Reply = tuple[int, Headers, bytes]


class App:
    """Answers for the models that it holds now; `serve` puts others in their place between two requests.

    With `keys` everything but health needs `Authorization: Bearer KEY`. A body over `max_bytes`, or with more rows
    than its model allows, gets 413. While ``closing`` every answer asks its caller to open another connection.
    """

    def __init__(self, models: Models, *, keys: frozenset[str], max_bytes: int, meter: Meter) -> None:
        self.closing = False
        self.busy_s = 0.0
        self._max_bytes, self._meter, self._threaded = max_bytes, meter, 0
        self.serve(models, keys)

    def serve(self, models: Models, keys: frozenset[str]) -> None:
        """Answer for these models with these keys; a request that has begun ends with what it began with."""
        self._models, self._keys = models, [key.encode() for key in keys]

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
        if self.closing:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        self.busy_s += perf_counter() - began

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
        if self._keys and asked.kind not in _OPEN:
            self._check(head.key)
        if scope["method"] != asked.method:
            allowed = (b"allow", asked.method.encode())
            raise Failed(405, f"{scope['method'][:20]}: {asked.method} is needed there", [allowed])
        if asked.kind == "infer":
            return await self._infer(asked, head, receive)
        head.id = head.id or fresh_id()
        if asked.kind == "metrics":
            page = await asyncio.to_thread(self._meter.page)
            return 200, [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")], page
        if asked.kind == "openapi":
            return 200, [_JSON], _openapi()
        body = await read_body(head, receive, self._max_bytes) if asked.kind == "index" else b""
        value = self._described(asked, body)
        unready = isinstance(value, dict) and value.get("ready") is False
        return 503 if unready else 200, [_JSON], orjson.dumps(value)

    def _check(self, key: str) -> None:
        # Every key is compared, each in constant time: how long it takes says nothing of which is near.
        given = key.encode("latin-1")
        same = False
        for known in self._keys:
            same |= hmac.compare_digest(given, known)
        if not same:
            asked = (b"www-authenticate", b"Bearer")
            raise Failed(401, "a key is needed: send the header `Authorization: Bearer KEY`", [asked])

    def _described(self, asked: Route, body: bytes) -> JsonValue:
        models = self._models
        if asked.kind == "server":
            return describe.server()
        if asked.kind == "live":
            return {"live": True}
        if asked.kind == "ready":
            return {"ready": bool(models.loaded) and not models.failed and not self.closing}
        if asked.kind == "index":
            return describe.index(models, only_ready=_only_ready(body))
        if asked.kind == "model_ready":
            return describe.ready(models, asked.name, asked.version)
        return describe.metadata(find(models, asked.name, asked.version))

    async def _infer(self, asked: Route, head: Head, receive: Receive) -> Reply:
        began = perf_counter()
        model = find(self._models, asked.name, asked.version)
        tally = self._meter.of(model.wanted.name, str(model.wanted.number))
        status, rows = "500", 0
        try:
            body = await read_body(head, receive, self._max_bytes)
            if len(body) <= _INLINE_BYTES and tally.busy_s < _INLINE_S:
                rows, reply = _answered(model, body, head)
            else:
                rows, reply = await self._in_a_thread(model, body, head)
            tally.busy_s += 0.1 * (perf_counter() - began - tally.busy_s)
            status = "200"
            return reply
        except Failed as failed:
            status = str(failed.status)
            raise
        except RaymlopsError as error:
            status = str(error.http_status)
            raise
        finally:
            tally.answered(status, perf_counter() - began, rows)

    async def _in_a_thread(self, model: Model, body: bytes, head: Head) -> tuple[int, Reply]:
        if self._threaded >= _MOST_THREADED:
            raise Unavailable(f"model {model.wanted.name!r}: {_MOST_THREADED} requests wait already; come again")
        self._threaded += 1
        try:
            return await asyncio.to_thread(_answered, model, body, head)
        finally:
            self._threaded -= 1


def build(
    models: Models, *, keys: frozenset[str] = frozenset(), max_bytes: int = MOST_BYTES, meter: Meter | None = None
) -> App:
    """Return the application of these models."""
    return App(models, keys=keys, max_bytes=max_bytes, meter=meter or Meter())


def _answered(model: Model, body: bytes, head: Head) -> tuple[int, Reply]:
    """Return the number of rows and the answer to a body."""
    plain = parse_plain(body)
    if plain is not None:
        rows = plain.inputs[0].shape[0]
        _check_rows(model, rows)
        _name(head, plain.id)
        written = infer_plain(model, plain, request_id=plain.id or head.id)
        if written is not None:
            return rows, (200, [_JSON], written)
    parsed = parse_request(body)
    rows = rows_of(parsed)
    _check_rows(model, rows)
    _name(head, parsed.id)
    response = infer(model, parsed, request_id=parsed.id or head.id)
    return rows, (200, [_JSON], write_response(response))


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
