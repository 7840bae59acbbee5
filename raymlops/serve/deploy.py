"""The serve stage: change what an endpoint serves, and wait until it does. Knows nothing of the protocol's bodies.

One writer at a time holds the lock of this home. The desired state is sent, waited for, and written down; when it
does not come about, the state before is sent again, so that what answered goes on answering.
"""

import fcntl
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import httpx
import orjson

from raymlops import registry
from raymlops.codec import digest, dumps, write_aside
from raymlops.engine import chosen, gpus
from raymlops.errors import NotFound, RaymlopsError, StageFailed, Unavailable
from raymlops.serve import dashboard as ray_serve
from raymlops.serve import state as states
from raymlops.serve.keys import read_keys
from raymlops.serve.listener import listener
from raymlops.serve.state import APPLICATION, Served, State
from raymlops.spec import Spec, expand, home, home_variables
from raymlops.telemetry import say
from raymlops.values import JsonValue, Version

__all__ = ["run", "stop"]

_LIMIT_S = 120.0
_LOCK_S = 180.0
_POLL_S = 0.1


def run(
    spec: Spec,
    *,
    model: str | None = None,
    may_commit: Callable[[], None] = lambda: None,
    dashboard: str,
) -> dict[str, JsonValue]:
    """Serve a version, by default the model's champion, beside what this home serves already; return when it answers.

    `dashboard` is the URL of the cluster's dashboard. The same version again changes nothing. Raise Unavailable when
    something else holds the port, StageFailed with the replica's error when the version cannot be served: then what
    was served before is served still.
    """
    registry.allow("deployer", spec.name)
    version = registry.resolve(model or f"{spec.name}@champion")
    served = _served(spec, version)
    host, port = spec.serve.host, spec.serve.port
    keys = read_keys([Path(served.keys)] if served.keys else [])
    with _one_at_a_time():
        session = ray_serve.session(dashboard)
        before = states.settled(_kept(), cluster=session, host=host, port=port)
        after = states.add(before, served, host=host, port=port)
        _make_room(dashboard, before, after)
        may_commit()
        say(f"serve: {version} by {chosen(version)[0]} on {_url(after)}")
        try:
            ray_serve.put(dashboard, _document(dashboard, after))
            engine = _wait_until_it_answers(dashboard, after, served, key=next(iter(sorted(keys)), None))
        except BaseException:
            _put_back(dashboard, before, served.name)
            raise
        write_aside(_path(), dumps(asdict(after), indent=True))
        if served not in before.models:
            said: dict[str, JsonValue] = {"url": _url(after), "engine": engine}
            registry.note(version.name, "served", role="deployer", version=version.number, evidence=said)
    url = _url(after)
    return {
        "url": url,
        "model": served.name,
        "version": served.number,
        "engine": engine,
        "outputs": [f"{url}/v2/models/{served.name}/versions/{served.number}/ready"],
    }


def stop(name: str, *, dashboard: str) -> dict[str, JsonValue]:
    """Stop serving a model; with the last one Ray Serve ends and its port is free. NotFound if it is not served."""
    registry.allow("deployer", name)
    with _one_at_a_time():
        kept = _kept()
        if kept is None or kept.cluster != ray_serve.session(dashboard):
            raise NotFound(f"model {name!r}: is not served; nothing is served on {dashboard}")
        after = states.remove(kept, name)
        _send(dashboard, after)
        write_aside(_path(), dumps(asdict(after), indent=True))
        number = next(one.number for one in kept.models if one.name == name)
        registry.note(name, "stopped", role="deployer", version=number)
    return {"stopped": name, "served": [model.name for model in after.models]}


def _served(spec: Spec, version: Version) -> Served:
    engine = chosen(version)
    keys = Path(expand(spec.serve.keys)).resolve() if spec.serve.keys else None
    return Served(
        name=version.name,
        number=version.number,
        digest=version.digest,
        path=str(version.path),
        max_rows=spec.serve.max_rows,
        choice=digest(list(engine))[:16],
        replicas=spec.serve.replicas,
        most_replicas=spec.serve.most_replicas or spec.serve.replicas,
        grpc_port=spec.serve.grpc_port,
        gpus=gpus(*engine),
        strict=spec.serve.strict,
        batching=spec.serve.batching.model_dump(mode="json") if spec.serve.batching else None,
        keys=str(keys) if keys else None,
    )


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Hold the lock of this home's endpoint; it is free again when this process ends, however it ends."""
    _path().parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + _LOCK_S
    with _path().with_name("lock").open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Unavailable(
                        f"serve: another process has been changing this endpoint for {_LOCK_S:.0f} s"
                    ) from None
                time.sleep(_POLL_S)
        yield


def _path() -> Path:
    return home() / "serve" / "state.json"


def _kept() -> State | None:
    try:
        return states.read(orjson.loads(_path().read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise StageFailed(f"{_path()}: is not the state of an endpoint: {error}; remove it and serve again") from error


def _make_room(dashboard: str, before: State, after: State) -> None:
    """See that the ports are free, or held by the replicas of this endpoint: others would share them without a word."""
    ours: set[int | None] = set()
    if before.models and before.host == after.host and _status(dashboard)[0] != "NOT_DEPLOYED":
        ours = {before.port, states.grpc_port(before)}
    for key, port in (("port", after.port), ("grpc_port", states.grpc_port(after))):
        holder = listener(after.host, port) if port is not None and port not in ours else None
        if holder is not None:
            raise Unavailable(f"serve.{key}: port {port} {holder}; end that, or set serve.{key} to another")


def _document(dashboard: str, state: State) -> dict[str, JsonValue]:
    # What others deployed is sent along: an application that is left out would be deleted.
    apps = ray_serve.applications(dashboard)
    others = [dict(app.config) for app in apps if app.name != APPLICATION and app.config]
    return states.document(state, variables=home_variables(), others=others)


def _send(dashboard: str, state: State) -> None:
    document = _document(dashboard, state)
    if document["applications"]:
        ray_serve.put(dashboard, document)
    else:
        ray_serve.shut_down(dashboard)


def _put_back(dashboard: str, before: State, name: str) -> None:
    still = next((model for model in before.models if model.name == name), None)
    say(f"serve: {name} could not be served; " + (f"version {still.number} answers as before" if still else "left out"))
    try:
        _send(dashboard, before)
    except RaymlopsError as error:
        say(f"serve: the state before could not be sent again: {error}")


def _wait_until_it_answers(dashboard: str, state: State, served: Served, *, key: str | None) -> str:
    """Return the engine that answers, once every replica runs and this very version says that it is ready."""
    deadline = time.monotonic() + _LIMIT_S
    url = f"{_url(state)}/v2/models/{served.name}/versions/{served.number}/ready"
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    seen = "nothing yet"
    with httpx.Client(timeout=10.0, trust_env=False, headers=headers) as client:
        while time.monotonic() < deadline:
            status, message = _status(dashboard)
            if status == "DEPLOY_FAILED":
                raise StageFailed(f"serve: {served.name}@{served.number} could not be deployed: {_last(message)}")
            engine = _engine(client, url, served) if status == "RUNNING" else None
            if engine is not None:
                return engine
            seen = f"{status} {message}".strip()
            time.sleep(_POLL_S)
    raise StageFailed(f"serve: {served.name}@{served.number} did not answer within {_LIMIT_S:.0f} s: {_last(seen)}")


def _status(dashboard: str) -> tuple[str, str]:
    """Return the status of our application and what is said of it."""
    try:
        now = ray_serve.applications(dashboard)
    except Unavailable as error:
        return "UNKNOWN", str(error)
    app = next((app for app in now if app.name == APPLICATION), None)
    return (app.status, app.message) if app else ("NOT_DEPLOYED", "")


def _engine(client: httpx.Client, url: str, served: Served) -> str | None:
    try:
        response = client.get(url)
        body = response.json()
    except (httpx.TransportError, ValueError):
        return None
    if not isinstance(body, dict):
        return None
    if response.status_code == 503 and body.get("ready") is False:
        raise StageFailed(f"serve: {served.name}@{served.number} could not be loaded: {body.get('error')}")
    parameters = body.get("parameters") or {}
    # The same number may be another model, of a registry that was begun anew: the digest tells.
    right = parameters.get("digest") == served.digest and parameters.get("choice") == served.choice
    if response.status_code != 200 or not right:
        return None
    for line in parameters.get("passed", "").splitlines():
        say(f"serve: {served.name}@{served.number} is answered by {parameters['engine']}, for {line}")
    return str(parameters["engine"])


def _url(state: State) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(state.host, state.host)
    return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{state.port}"


def _last(text: str) -> str:
    """Return the end of a replica's trace, where the cause stands, without the colours of a terminal."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text).strip()[-2000:]
