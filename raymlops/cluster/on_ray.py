"""Connect this process to a cluster for as long as a block runs, or be one. Knows nothing of what is done there."""

import logging
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from raymlops.cluster.local import LocalCluster, environment, head_variables, object_store_bytes
from raymlops.cluster.ports import LOOPBACK, is_loopback
from raymlops.cluster.processes import end, reap_after_this_one
from raymlops.cluster.watch import watched
from raymlops.errors import SpecError, Unavailable

__all__ = ["connect", "embedded"]

NAMESPACE = "raymlops"
_PROBE_S = 5.0
_HEAD = ("gcs_server", "raylet")  # the processes without which there is no cluster


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
    with (
        _environ(environment(local) if local else {}),
        _connection(address, address=address) as dashboard,
        watched([local.pid] if local else [], gone=_gone(local)),
    ):
        yield f"http://{dashboard}"


@contextmanager
def embedded(*, cpus: int | None = None) -> Iterator[None]:
    """Be the head of a cluster on loopback, without a dashboard or a job server, for as long as the block runs.

    Its processes are children of this one and end with it, however it ends. It starts seconds sooner than a cluster
    with a process of its own.
    """
    # Short: the path of a unix socket below it may have 107 bytes.
    folder, marker = Path(tempfile.mkdtemp(prefix="rml-")), secrets.token_hex(8)
    reaper = reap_after_this_one(marker, folder)
    options = {
        "num_cpus": cpus,
        "include_dashboard": False,
        "object_store_memory": object_store_bytes(),
        "_node_ip_address": LOOPBACK,
        "_temp_dir": str(folder),
    }
    try:
        with _environ(head_variables(marker)), _connection(f"{LOOPBACK}:0", address="local", **options):
            head = [child.pid for child in psutil.Process().children() if child.name() in _HEAD]
            with watched(head, gone=_gone()):
                yield
    finally:
        end(marker, wait_s=3.0)
        reaper.terminate()
        reaper.wait()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _connection(where: str, **options: Any) -> Iterator[str]:
    import ray

    _read_environment_again(where)
    try:
        context = ray.init(
            namespace=NAMESPACE,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=True,
            **options,
        )
    except (ConnectionError, RuntimeError) as error:
        raise Unavailable(f"{where}: no Ray cluster answers: {str(error).splitlines()[0]}") from error
    try:
        yield context.dashboard_url
    finally:
        ray.shutdown()


def _gone(cluster: LocalCluster | None = None) -> Unavailable:
    which = f"the local cluster, pid {cluster.pid}, (see {cluster.log})" if cluster else "the cluster of this command"
    return Unavailable(f"{which} ended while it was in use; the same command goes on from here, on a new one")


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
