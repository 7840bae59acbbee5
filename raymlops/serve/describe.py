"""What an endpoint says of itself and of its models, as values of JSON. Knows nothing of HTTP or gRPC."""

from importlib.metadata import PackageNotFoundError, version

from raymlops.contract import Contract
from raymlops.serve.endpoint import Endpoint
from raymlops.serve.infer import input_tensors
from raymlops.serve.models import Model, Models, find
from raymlops.values import JsonValue

__all__ = ["EXTENSIONS", "all_ready", "index", "metadata", "ready", "server"]

EXTENSIONS = ("binary_tensor_data", "model_repository")


def server() -> dict[str, JsonValue]:
    """Return name, version and extensions of the server."""
    try:
        number = version("raymlops")
    except PackageNotFoundError:
        number = "unknown"
    return {"name": "raymlops", "version": number, "extensions": [*EXTENSIONS]}


def all_ready(endpoint: Endpoint) -> bool:
    """Return whether every model that is to be served answers, and new callers are welcome."""
    return bool(endpoint.models.loaded) and not endpoint.models.failed and not endpoint.closing


def metadata(model: Model) -> dict[str, JsonValue]:
    """Return the versions, inputs and outputs of a model."""
    contract: Contract = model.contract
    return {
        "name": model.wanted.name,
        "versions": [str(model.wanted.number)],
        "platform": f"raymlops_{model.engine}",
        "inputs": [{"name": name, "datatype": kind, "shape": [-1]} for name, kind in input_tensors(contract)],
        "outputs": [{"name": name, "datatype": kind, "shape": [-1]} for name, kind in model.outputs],
    }


def ready(models: Models, name: str, number: str | None) -> dict[str, JsonValue]:
    """Return whether a model answers, by which version and engine, or why it does not; NotFound if it is unknown."""
    failed = {str(n): text for (failed_name, n), text in models.failed.items() if failed_name == name}
    if number in failed or (failed and name not in models.loaded):
        return {"name": name, "ready": False, "error": failed.get(number or "") or next(iter(failed.values()))}
    model = find(models, name, number)
    return {
        "name": name,
        "ready": True,
        "version": str(model.wanted.number),
        "parameters": {
            "digest": model.wanted.digest,
            "choice": model.wanted.choice,
            "engine": model.engine,
            "variant": model.variant,
            # The protocol allows no lists here.
            **({"passed": "\n".join(f"{one}: {reason}" for one, reason in model.passed)} if model.passed else {}),
        },
    }


def index(models: Models, *, only_ready: bool) -> list[JsonValue]:
    """Return every model version that was asked for, its state and, if it is not ready, the reason."""
    found: list[JsonValue] = [
        {"name": name, "version": str(model.wanted.number), "state": "READY", "reason": ""}
        for name, model in models.loaded.items()
    ]
    failed: list[JsonValue] = [
        {"name": name, "version": str(number), "state": "UNAVAILABLE", "reason": why}
        for (name, number), why in models.failed.items()
    ]
    return found if only_ready else found + failed
