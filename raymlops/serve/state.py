"""What an endpoint should serve, as a value, and the document that tells Ray Serve so. Knows nothing of HTTP or Ray.

Ray Serve takes the whole set of applications at once, so the whole desired state is kept in one place and is sent
anew with each change. Versions stand in `user_config`: changing only that swaps models inside running replicas.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from raymlops.errors import NotFound, SpecError
from raymlops.serve.scale import autoscaling
from raymlops.values import JsonValue

__all__ = ["APPLICATION", "DEPLOYMENT", "Served", "State", "add", "document", "grpc_port", "read", "remove", "settled"]

APPLICATION = "raymlops"
DEPLOYMENT = "endpoint"
_OF_THE_ENDPOINT = ("replicas", "most_replicas", "grpc_port", "gpus", "keys")
_CPUS = 0.1  # a small share, so that an endpoint at rest does not take a core from the stages beside it
_IMPORT_PATH = "raymlops.serve.on_ray:build"


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One model of the endpoint: the words of `models.Wanted`, and what its spec asks of the endpoint."""

    name: str
    number: int
    digest: str
    path: str
    max_rows: int
    choice: str
    replicas: int
    keys: str | None
    most_replicas: int = 1
    grpc_port: int | None = None
    gpus: float = 0.0
    batching: Mapping[str, JsonValue] | None = None
    strict: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The endpoint on one cluster: where it listens and what it serves, in the order of names.

    ``cluster`` names the session of the cluster; ``host`` is the address that is bound.
    """

    cluster: str
    host: str
    port: int
    models: tuple[Served, ...] = ()


def settled(state: State | None, *, cluster: str, host: str, port: int) -> State:
    """Return the state to change: the one that was kept, or an empty one if there is none for this cluster."""
    if state is None or state.cluster != cluster or not state.models:
        return State(cluster=cluster, host=host, port=port)
    return state


def add(state: State, model: Served, *, host: str, port: int) -> State:
    """Return the state with the model in place of any other version of its name.

    Raise SpecError when other models are served at another address: Ray Serve has one for all of them.
    """
    others = tuple(other for other in state.models if other.name != model.name)
    if others and (host, port) != (state.host, state.port):
        names = ", ".join(other.name for other in others)
        raise SpecError(
            f"serve: {host}:{port} given, but this cluster serves {names} at {state.host}:{state.port} and has one "
            "address for all models; use that one, or stop the others"
        )
    spoken = {other.grpc_port for other in others if other.grpc_port is not None}
    if spoken and model.grpc_port not in (None, *spoken):
        raise SpecError(
            f"serve.grpc_port: {model.grpc_port} given, but this cluster speaks gRPC at "
            f"{', '.join(map(str, spoken))}, one port for all models; use that one, or none"
        )
    return replace(state, host=host, port=port, models=tuple(sorted((*others, model), key=lambda m: m.name)))


def grpc_port(state: State) -> int | None:
    """Return the port at which all models of a state are asked over gRPC, None if they are not."""
    return next((model.grpc_port for model in state.models if model.grpc_port is not None), None)


def remove(state: State, name: str) -> State:
    """Return the state without a model; raise NotFound when it is not served."""
    if name not in [model.name for model in state.models]:
        raise NotFound(f"model {name!r}: is not served; served are {', '.join(m.name for m in state.models) or 'none'}")
    return replace(state, models=tuple(model for model in state.models if model.name != name))


def read(value: Mapping[str, Any]) -> State:
    """Read what `asdict` of a state gave, also after a trip through JSON text."""
    return State(**{**value, "models": tuple(Served(**model) for model in value["models"])})


def document(
    state: State, *, variables: Mapping[str, str], others: Sequence[Mapping[str, JsonValue]] = ()
) -> dict[str, JsonValue]:
    """Return the body of `PUT /api/serve/applications/`; `others` are applications of other people, kept as they are.

    `variables` are the environment in which every node finds the home.
    """
    applications: list[JsonValue] = [dict(other) for other in others]
    if state.models:
        applications.append(_application(state, variables=variables))
    # Requests come to the replicas themselves. A proxy that others have started stays: it is chosen once a cluster.
    return {"proxy_location": "Disabled", "applications": applications}


def _application(state: State, *, variables: Mapping[str, str]) -> dict[str, JsonValue]:
    models: list[JsonValue] = [
        {key: value for key, value in asdict(model).items() if key not in _OF_THE_ENDPOINT} for model in state.models
    ]
    keys: list[JsonValue] = [*sorted({model.keys for model in state.models if model.keys is not None})]
    return {
        "name": APPLICATION,
        "route_prefix": None,
        "import_path": _IMPORT_PATH,
        "deployments": [
            {
                "name": DEPLOYMENT,
                **_replicas(state),
                # Models of one endpoint share the device of a replica; whole devices cannot be added to one.
                "ray_actor_options": {"num_cpus": _CPUS, "num_gpus": min(1.0, sum(m.gpus for m in state.models))},
                # Not as a runtime environment, for which Ray would not use the processes that wait for work.
                "user_config": {
                    "variables": dict(variables),
                    "host": state.host,
                    "port": state.port,
                    "grpc_port": grpc_port(state),
                    "models": models,
                    "keys": keys,
                },
            }
        ],
    }


def _replicas(state: State) -> dict[str, JsonValue]:
    fewest = max(model.replicas for model in state.models)
    most = max(fewest, *(model.most_replicas for model in state.models))
    if most == fewest:
        return {"num_replicas": fewest}
    return {"num_replicas": "auto", "autoscaling_config": autoscaling(fewest, most)}
