"""How the endpoint is spread: one Ray Serve deployment, whose replicas each keep a server process on their node.

Ray Serve places, scales, updates and heals replicas; requests never pass through it. Knows nothing of the protocol, of
models or of where the state is kept.
"""

import asyncio
from pathlib import Path
from typing import Any

import ray
from ray import serve

from raymlops.serve.listener import LOOPBACK
from raymlops.serve.scale import LOAD
from raymlops.serve.state import DEPLOYMENT
from raymlops.serve.supervisor import Supervisor

__all__ = ["build"]


class _Endpoint:
    """One replica. It is not ready until the first `reconfigure` has loaded the models."""

    def __init__(self) -> None:
        _stay_on_loopback()
        self._supervisor: Supervisor | None = None
        self._address: tuple[str, int, int | None] | None = None
        self._turn = asyncio.Lock()

    async def reconfigure(self, config: dict[str, Any]) -> None:
        """Serve other models, or at another address, from now on.

        Raise StageFailed only when nothing at all can be served: Ray Serve then starts the replica again. With a
        model that answers, a version that does not load is reported by its own `/ready` and changes nothing else.
        """
        async with self._turn:
            address, before = (config["host"], config["port"], config["grpc_port"]), self._supervisor
            if before is None or address != self._address:
                # A server process takes its ports once.
                metrics, variables = _folder() / f"metrics-{address[1]}", config["variables"]
                self._supervisor = Supervisor(*address[:2], metrics=metrics, variables=variables)
                self._address = address
            assert self._supervisor is not None
            try:
                await self._supervisor.serve(config)
            finally:
                if before is not None and before is not self._supervisor:
                    await before.close()

    def check_health(self) -> None:
        """Raise Unavailable when the server process is stuck; one that died is replaced without being asked."""
        if self._supervisor is not None:
            self._supervisor.check()

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Return the load of the last second, of which `scale` makes a number of replicas."""
        return {LOAD: self._supervisor.load if self._supervisor else 0.0}

    async def __del__(self) -> None:
        """End when what was begun is answered."""
        if self._supervisor is not None:
            await self._supervisor.close()


def _stay_on_loopback() -> None:
    """Keep this replica's door for other deployments off the network: Ray Serve opens it on every interface.

    What comes in by it is unpickled, and no deployment calls this one. Ray 2.60 has no setting for it.
    """
    from ray.serve._private import replica

    opened = replica.add_port_to_grpc_server

    def on_loopback(server: Any, address: str) -> Any:
        return opened(server, address.replace("[::]", LOOPBACK))

    replica.add_port_to_grpc_server = on_loopback


def _folder() -> Path:
    """Return a folder of this node that lasts as long as the cluster."""
    return Path(ray._private.worker.global_worker.node.get_session_dir_path()) / "raymlops"


def build(args: dict[str, Any]) -> serve.Application:
    """Return the application. It takes no argument: an argument that changed would restart every replica."""
    deployment = serve.deployment(
        _Endpoint,
        name=DEPLOYMENT,
        # A replica that died is found after about this long; the default of 10 s was measured as 10.5 s of silence.
        health_check_period_s=1,
        health_check_timeout_s=30,
        graceful_shutdown_wait_loop_s=0.5,
        graceful_shutdown_timeout_s=20,
        max_constructor_retry_count=2,
        # New code starts before the old is stopped: with one replica the default would be an outage.
        max_surge_percent=100,
    )
    return deployment.bind()
