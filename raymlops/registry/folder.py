"""A version's folder: content-addressed, immutable, verified on every load. Knows nothing of MLflow."""

import os
import platform
import shutil
from collections.abc import Mapping
from importlib.metadata import version as package_version
from pathlib import Path
from uuid import uuid4

from raymlops.codec import code_digest, digest_folder
from raymlops.errors import Conflict, StageFailed
from raymlops.registry.depot import share
from raymlops.spec import Spec, home
from raymlops.values import JsonValue

__all__ = ["lineage", "packages", "store_folder", "verify_folder"]

_PACKAGES = ("numpy", "onnx", "onnxruntime", "pyarrow", "ray", "raymlops", "torch", "xgboost")


def store_folder(files: Mapping[str, bytes]) -> tuple[str, Path]:
    """Write files as one immutable folder named by their digest; return digest and path. Equal files: one folder.

    Raise StageFailed where the disk takes it not, and leave nothing.
    """
    models = home() / "models"
    aside = models / f".{uuid4().hex[:12]}"
    try:
        aside.mkdir(parents=True)
        for name, data in files.items():
            with (aside / name).open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        digest = digest_folder(aside)
        target = models / digest
        try:
            aside.rename(target)
        except OSError:
            verify_folder(target, digest)
        share(target)
        return digest, target
    except OSError as error:
        raise StageFailed(
            f"{models}: a version cannot be written: {error}; nothing of it is registered, mend that and run it again"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def verify_folder(folder: Path, digest: str) -> None:
    """Raise Conflict when a version's folder is not, byte for byte, what was registered."""
    found = digest_folder(folder) if folder.is_dir() else "nothing"
    if found != digest:
        raise Conflict(
            f"{folder}: holds {found[:12]}, registered was {digest[:12]}: a file was changed, added or lost; "
            "restore it or register the model again"
        )


def lineage(
    spec: Spec, *, data: str, manifest: JsonValue, rows: Mapping[str, int], sweep: str, trial: int
) -> dict[str, JsonValue]:
    """Return what is needed to make the same version again: nothing in it depends on when or where it ran."""
    return {
        "spec": spec.model_dump(mode="json", include={"name", "data", "train", "registry"}, by_alias=True),
        "windows": list(spec.data.windows),  # in their order, by which shares are given out
        "data": data,
        "manifest": manifest,
        "rows": dict(rows),
        "sweep": sweep,
        "trial": trial,
        "code": code_digest(),
        "python": platform.python_version(),
        "packages": packages(),
    }


def packages() -> dict[str, JsonValue]:
    """Return the version of each package that can change a model's bytes."""
    return {name: package_version(name) for name in _PACKAGES}
