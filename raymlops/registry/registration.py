"""Make versions of stored folders: in MLflow, signed, and with a line in the journal. Knows nothing of aliases."""

from pathlib import Path

from raymlops.registry.access import allow
from raymlops.registry.chronicle import note, written
from raymlops.registry.mlflow_client import alone, client
from raymlops.registry.signature import sign_version
from raymlops.registry.versions import checked, listed, made_of
from raymlops.values import Version

__all__ = ["register", "sign"]


def register(name: str, *, digest: str, path: Path, run_id: str | None, tags: dict[str, str]) -> Version:
    """Return the version that holds these bytes, made if there is none: the same bytes are the same version.

    It is signed by the key of whoever registers. Raise Forbidden for who is no trainer of the model.
    """
    checked(name)
    allow("trainer", name)
    with alone(f"{name}.versions"):
        sign_version(name, digest)
        for version in listed(name):
            if version.digest == digest:
                return version
        mlflow = client()
        if not mlflow.search_registered_models(filter_string=f"name = '{name}'"):
            mlflow.create_registered_model(name)
        made = mlflow.create_model_version(
            name, source=path.as_uri(), run_id=run_id, tags={**tags, "digest": digest, "path": str(path)}
        )
        version = made_of(name, made, {})
        said = {"digest": digest, **tags}
        written(name, note(name, "registered", role="trainer", version=version.number, evidence=said))
        return version


def sign(version: Version) -> None:
    """Sign a version that is older than the access file. Raise Forbidden for who is no trainer of the model."""
    allow("trainer", version.name)
    sign_version(version.name, version.digest)
