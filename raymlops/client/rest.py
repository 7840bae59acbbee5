"""Calls over HTTP: as requests of the protocol's REST form, and responses as replies. Sends through httpx."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
import orjson

from raymlops.client.conversation import Call, Infer, Metadata, Problem, Ready, Reply, Server
from raymlops.client.retry import is_here, pause_s, silent, unreachable
from raymlops.codec import parse_response, write_request
from raymlops.errors import Conflict, DataError, NotFound, RaymlopsError, SpecError, StageFailed, Unavailable

__all__ = ["AsyncRest", "Rest"]

_ERRORS: dict[int, type[RaymlopsError]] = {404: NotFound, 409: Conflict, 422: DataError, 503: Unavailable}
_LENGTH = "inference-header-content-length"


class Rest:
    """Sends calls and waits for each."""

    def __init__(self, url: str, *, key: str | None, timeout_s: float, transport: httpx.BaseTransport | None) -> None:
        self._to = _Address(url=url, key=key, timeout_s=timeout_s)
        here = is_here(httpx.URL(url).host)
        self._http = httpx.Client(timeout=timeout_s, transport=transport, trust_env=not here)

    def send(self, call: Call) -> Reply:
        """Return what the endpoint replies; raise Unavailable when it does not."""
        request, tries = self._to.request(call), 0
        while True:
            tries += 1
            try:
                response = self._http.request(**request)
            except httpx.TransportError as error:
                wait = self._to.pause_after(error, tries)
            else:
                again = pause_s(tries, passes=response.status_code == 503)
                if again is None:
                    return _reply(call, response)
                wait = again
            time.sleep(wait)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


class AsyncRest:
    """Sends calls from an event loop."""

    def __init__(
        self, url: str, *, key: str | None, timeout_s: float, transport: httpx.AsyncBaseTransport | None
    ) -> None:
        self._to = _Address(url=url, key=key, timeout_s=timeout_s)
        here = is_here(httpx.URL(url).host)
        self._http = httpx.AsyncClient(timeout=timeout_s, transport=transport, trust_env=not here)

    async def send(self, call: Call) -> Reply:
        """Return what the endpoint replies; raise Unavailable when it does not."""
        request, tries = self._to.request(call), 0
        while True:
            tries += 1
            try:
                response = await self._http.request(**request)
            except httpx.TransportError as error:
                wait = self._to.pause_after(error, tries)
            else:
                again = pause_s(tries, passes=response.status_code == 503)
                if again is None:
                    return _reply(call, response)
                wait = again
            await asyncio.sleep(wait)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Address:
    url: str
    key: str | None
    timeout_s: float

    def request(self, call: Call) -> dict[str, Any]:
        """Return what httpx sends: method, address, body and headers."""
        headers = {"Authorization": f"Bearer {self.key}"} if self.key is not None else {}
        if not isinstance(call, Infer):
            return {"method": "GET", "url": f"{self.url}{_path(call)}", "headers": headers}
        body, length = write_request(call.request, binary=call.binary)
        headers["Content-Type"] = "application/json" if length is None else "application/octet-stream"
        headers |= {} if length is None else {_LENGTH: str(length)}
        return {"method": "POST", "url": f"{self.url}{_path(call)}", "headers": headers, "content": body}

    def pause_after(self, error: httpx.TransportError, tries: int) -> float:
        """Return how long to wait after a call that failed; raise Unavailable where it is given up."""
        wait = pause_s(tries, passes=isinstance(error, httpx.ConnectError | httpx.ConnectTimeout))
        if wait is not None:
            return wait
        if isinstance(error, httpx.TimeoutException):
            raise silent(self.url, timeout_s=self.timeout_s) from error
        raise unreachable(self.url, error) from error


def _path(call: Call) -> str:
    if isinstance(call, Server):
        return "/v2"
    version = f"/versions/{quote(str(call.version), safe='')}" if call.version is not None else ""
    end = {Ready: "/ready", Metadata: "", Infer: "/infer"}[type(call)]
    return f"/v2/models/{quote(call.name, safe='')}{version}{end}"


def _reply(call: Call, response: httpx.Response) -> Reply:
    if response.status_code >= 400:
        return _problem(response)
    if isinstance(call, Ready):
        return True
    if not isinstance(call, Infer):
        value = _json(response.content)
        return value if isinstance(value, dict) else _strange(response)
    try:
        return parse_response(response.content, response.headers.get(_LENGTH))
    except SpecError as error:
        return Problem(kind=StageFailed, text=f"the endpoint's answer is not of the Open Inference Protocol: {error}")


def _problem(response: httpx.Response) -> Problem:
    status, value = response.status_code, _json(response.content)
    said = value if isinstance(value, dict) else {}
    text = str(said.get("error") or response.content[:300].decode(errors="replace") or f"status {status}")
    kind = _ERRORS.get(status, SpecError if status < 500 else StageFailed)
    rows = said.get("problems")
    return Problem(kind=kind, text=text, rows=[*rows] if isinstance(rows, list) else ())


def _strange(response: httpx.Response) -> Problem:
    shown = response.content[:200]
    return Problem(kind=StageFailed, text=f"the endpoint's reply is not of the Open Inference Protocol: {shown!r}")


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
