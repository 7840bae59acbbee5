"""Which job server is meant: the given one, the ambient one or this home's. Asks nobody whether it lives."""

import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from raymlops.cluster import LocalCluster, attached
from raymlops.cluster.ports import is_loopback
from raymlops.errors import SpecError, Unavailable

__all__ = ["check_address", "is_local"]

_AMBIENT = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
_ADVICE = "give the URL of the job server, as http://127.0.0.1:8265"


def check_address(address: str | None, *, local: LocalCluster | None = None) -> str:
    """Return the URL of the job server: `address`, else an ambient one, else the local cluster's.

    SpecError: it is no URL, or RAY_API_SERVER_ADDRESS or RAY_ADDRESS names another cluster, which Ray's own tools
    would silently prefer. Unavailable: there is none. In a Ray job it is Ray that sets RAY_ADDRESS: not looked at.
    """
    inside_a_job = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    ambient = {} if inside_a_job else {name: os.environ[name] for name in _AMBIENT if os.environ.get(name)}
    if address is not None:
        url = _url(address, where="--address")
        _refuse_contradiction(url, ambient)
        return url
    for name, value in ambient.items():
        if value not in ("auto", "local"):
            return _url(value, where=name)
    cluster = local or attached()
    if cluster is None:
        raise Unavailable("no local cluster is up; start one with `raymlops up`, or name a job server with --address")
    return cluster.dashboard


def is_local(url: str) -> bool:
    """Return whether a URL names this machine."""
    host = urlsplit(url).hostname or ""
    return host == "localhost" or is_loopback(host)


def _url(address: str, *, where: str) -> str:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SpecError(f"{where}: {address!r} is not a job server; {_ADVICE}")
    try:
        port = parts.port
    except ValueError as error:
        raise SpecError(f"{where}: {address!r}: {error}; {_ADVICE}") from error
    return f"{parts.scheme}://{parts.netloc if port else f'{parts.netloc}:{_default_port(parts.scheme)}'}"


def _default_port(scheme: str) -> int:
    return 443 if scheme == "https" else 80


def _refuse_contradiction(url: str, ambient: Mapping[str, str]) -> None:
    for name, value in ambient.items():
        if not _agrees(url, value):
            raise SpecError(f"--address: {url} is given, but {name}={value!r} names another cluster; unset {name}")


def _agrees(url: str, value: str) -> bool:
    if value in ("auto", "local"):
        return True
    if value.startswith(("http://", "https://")):
        return _url(value, where="RAY_ADDRESS") == url
    # HOST:PORT of a GCS, or ray://HOST:PORT: only the host can be compared.
    host = urlsplit(value if "://" in value else f"//{value}").hostname
    return host == urlsplit(url).hostname or (is_local(url) and is_local(f"http://{host}"))
