"""Speak to Ray Serve through a cluster's dashboard. Knows nothing of models; every call has a time-out.

The declarative REST interface is used because it alone keeps replicas when only their configuration changes:
`serve.run` gives each deployment a new code version and restarts them all.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from raymlops.errors import RaymlopsError, SpecError, StageFailed, Unavailable
from raymlops.values import JsonValue

__all__ = ["Application", "applications", "put", "session", "shut_down"]

_READ_S = 20.0
_WRITE_S = 90.0  # the first PUT starts the controller


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """One application on the cluster; ``config`` is what was sent for it, ``message`` the cause of a failure."""

    name: str
    status: str
    message: str
    config: Mapping[str, Any] | None


def session(dashboard: str) -> str:
    """Return the name of the cluster's session: another cluster has another one."""
    return str(_call(dashboard, "GET", "/api/version", timeout_s=_READ_S).json()["session_name"])


def applications(dashboard: str) -> tuple[Application, ...]:
    """Return what Ray Serve on the cluster serves now."""
    details = _call(dashboard, "GET", "/api/serve/applications/", timeout_s=_READ_S).json()
    return tuple(_application(value) for value in details["applications"].values())


def put(dashboard: str, document: Mapping[str, JsonValue]) -> None:
    """Send the whole set of applications; it is accepted at once and deployed after. Repeating it changes nothing."""
    _call(dashboard, "PUT", "/api/serve/applications/", timeout_s=_WRITE_S, body=document)


def shut_down(dashboard: str) -> None:
    """End Ray Serve on the cluster, so that its port is free; without it this does nothing."""
    _call(dashboard, "DELETE", "/api/serve/applications/", timeout_s=_WRITE_S)


def _application(value: Mapping[str, Any]) -> Application:
    causes = [str(value["message"])]
    for deployment in value["deployments"].values():
        causes.append(str(deployment["message"]))
    return Application(
        name=value["name"],
        status=value["status"],
        message="\n".join(dict.fromkeys(cause for cause in causes if cause)),
        config=value.get("deployed_app_config"),
    )


def _call(
    dashboard: str, method: str, path: str, *, timeout_s: float, body: Mapping[str, JsonValue] | None = None
) -> httpx.Response:
    try:
        # Never through a proxy of the environment: the token must not leave for one.
        with httpx.Client(base_url=dashboard, timeout=timeout_s, trust_env=False, headers=_token_header()) as client:
            try:
                response = client.request(method, path, json=body)
            except (httpx.RemoteProtocolError, httpx.ReadError):
                # A loaded dashboard drops a connection now and then; each of these calls may be made twice.
                response = client.request(method, path, json=body)
    except httpx.TransportError as error:
        raise Unavailable(
            f"cluster: {dashboard} does not answer ({type(error).__name__}: {error}); is it up? `raymlops status`"
        ) from error
    if response.is_success:
        return response
    raise _refusal(f"{method} {dashboard}{path}", response)


def _refusal(what: str, response: httpx.Response) -> RaymlopsError:
    if response.status_code in (401, 403):
        return Unavailable(
            f"cluster: {what} was refused ({response.status_code}); set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH "
            "to the file of the cluster's token"
        )
    return StageFailed(f"cluster: {what} answered {response.status_code}: {response.text[:2000]}")


def _token_header() -> dict[str, str]:
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return {}
    token = os.environ.get("RAY_AUTH_TOKEN")
    if token is None:
        path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
        try:
            token = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError(f"RAY_AUTH_TOKEN_PATH: {path} cannot be read: {error}") from error
    return {"Authorization": f"Bearer {token.strip()}"}
