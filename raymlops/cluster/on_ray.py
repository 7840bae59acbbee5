"""Connect this process to a cluster for as long as a block runs. Knows nothing of what is done there."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import psutil

from raymlops.cluster.local import LocalCluster, environment
from raymlops.cluster.ports import is_loopback
from raymlops.cluster.watch import watched
from raymlops.errors import SpecError, Unavailable

__all__ = ["connect"]

NAMESPACE = "raymlops"
_PROBE_S = 5.0


@contextmanager
def connect(to: LocalCluster | str | None = None) -> Iterator[str]:
    """Hold a connection to a local cluster, to a GCS at `HOST:PORT`, or (None) to the cluster of this Ray job.

    The value is the URL of the cluster's dashboard. Inside a Ray job its own cluster is used whatever `to` says.
    Unavailable: there is no cluster, or it is gone.
    """
    inside_a_job = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    local = to if isinstance(to, LocalCluster) and not inside_a_job else None
    address = os.environ.get("RAY_ADDRESS") if inside_a_job or to is None else local.gcs if local else str(to)
    if not address:
        raise Unavailable("no cluster to connect to; start one with `raymlops up`, or give --address")
    _probe(address)
    with _environ(environment(local) if local else {}):
        import ray

        _read_environment_again(address)
        try:
            context = ray.init(
                address=address,
                namespace=NAMESPACE,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=True,
            )
        except (ConnectionError, RuntimeError) as error:
            raise Unavailable(f"{address}: no Ray cluster answers: {str(error).splitlines()[0]}") from error
        try:
            with _watched(local) if local else nullcontext():
                yield f"http://{context.dashboard_url}"
        finally:
            ray.shutdown()


@contextmanager
def _watched(local: LocalCluster) -> Iterator[None]:
    log = "" if local.log.is_relative_to(local.folder) else f" (see {local.log})"
    gone = Unavailable(
        f"the local cluster, pid {local.pid}, ended while it was in use{log}; the same command goes on from here, "
        "on a new cluster"
    )
    try:
        head = psutil.Process(local.pid)
    except psutil.NoSuchProcess as error:
        raise gone from error
    with watched([head], gone=gone):
        yield


def _read_environment_again(address: str) -> None:
    # Ray reads its environment when it is imported, which may have been before this connection was wanted.
    from ray._private import ray_constants
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()
    if is_loopback(address.rpartition(":")[0]):
        # Else 127.0.0.1 is replaced by the address of a network card, on which a local cluster does not listen.
        ray_constants.ENABLE_RAY_CLUSTER = False


def _probe(address: str) -> None:
    # Ray itself would try a dead address for more than a minute (measured, Ray 2.60).
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise SpecError(f"address: {address!r} is not the address of a GCS; give HOST:PORT, as 10.0.0.5:6379")
    try:
        socket.create_connection((host, int(port)), timeout=_PROBE_S).close()
    except OSError as error:
        raise Unavailable(f"{address}: no Ray cluster answers: {error}") from error


@contextmanager
def _environ(values: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    if values:
        os.environ.pop("RAY_AUTH_TOKEN", None)
    try:
        yield
    finally:
        for name in [*values, "RAY_AUTH_TOKEN"]:
            if name in before:
                os.environ[name] = before[name]
            else:
                os.environ.pop(name, None)
