"""How the endpoint is spread: one Ray Serve deployment whose replicas each hold all models of the state.

Knows nothing of the protocol, of contracts or of where the state is kept. New models arrive by `reconfigure`, are
loaded beside the old ones, and take over between two requests.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from ray import serve

from raymlops.errors import StageFailed
from raymlops.serve.app import build as build_app
from raymlops.serve.keys import read_keys
from raymlops.serve.models import Models, Wanted, next_models
from raymlops.serve.state import DEPLOYMENT

__all__ = ["build"]

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]


class _Endpoint:
    """One replica. It starts without models and is not ready until the first `reconfigure` has loaded them."""

    def __init__(self) -> None:
        self._models = Models()
        self._current = build_app(self._models)
        self._turn = asyncio.Lock()

    def __serve_build_asgi_app__(self) -> Callable[[_Message, _Receive, _Send], Awaitable[None]]:
        # A function, not the bound method: uvicorn takes what is neither function nor object for an ASGI 2 application.
        async def answer(scope: _Message, receive: _Receive, send: _Send) -> None:
            await self._current(scope, receive, _without_request_id(send))

        return answer

    async def reconfigure(self, config: dict[str, Any]) -> None:
        """Load what is new in a thread, while the old application answers, then put the new one in its place.

        Raise StageFailed only when nothing at all can be served: Ray Serve then starts the replica again. With a
        model that answers, a version that does not load is reported by its own `/ready` and changes nothing else.
        """
        async with self._turn:
            wanted = [Wanted.from_json(model) for model in config["models"]]
            models = await asyncio.to_thread(next_models, self._models, wanted)
            if not models.loaded:
                raise StageFailed(*(f"{name}@{number}: {why}" for (name, number), why in models.failed.items()))
            keys = await asyncio.to_thread(read_keys, [Path(path) for path in config["keys"]])
            self._current, self._models = build_app(models, keys=keys), models


def _without_request_id(send: _Send) -> _Send:
    # Serve's proxy puts X-Request-Id on every answer itself, the same one; two of them read as "a, a".
    async def sending(message: _Message) -> None:
        if message["type"] == "http.response.start":
            headers = [pair for pair in message.get("headers", []) if pair[0] != b"x-request-id"]
            message = {**message, "headers": headers}
        await send(message)

    return sending


def build(args: dict[str, Any]) -> serve.Application:
    """Return the application. It takes no argument: an argument that changed would restart every replica."""
    deployment = serve.deployment(
        serve.ingress()(_Endpoint),
        name=DEPLOYMENT,
        # Threads of one model answer one request at a time; what is above waits in the proxy, and then gets a 503.
        max_ongoing_requests=64,
        max_queued_requests=1_000,
        # A replica that died is found after about this long; the default of 10 s was measured as 10.5 s of silence.
        health_check_period_s=2,
        health_check_timeout_s=30,
        graceful_shutdown_wait_loop_s=0.5,
        graceful_shutdown_timeout_s=20,
        max_constructor_retry_count=2,
        # New code starts before the old is stopped: with one replica the default would be an outage.
        max_surge_percent=100,
        # A small share, so that an endpoint at rest does not take a core from the stages beside it.
        ray_actor_options={"num_cpus": 0.1},
    )
    return deployment.bind()
