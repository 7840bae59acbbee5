"""What an engine built for a version: a cache that is checked before use and built again when it does not hold.

Knows nothing of which artefact is in use.
"""

import errno
import io
import json
import shutil
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path
from uuid import uuid4

import numpy as np

from raymlops.codec import code_digest, digest, digest_file, dumps, write_aside
from raymlops.engine.choice import build_engine, engine_folder
from raymlops.engine.model import read_model
from raymlops.errors import EngineError
from raymlops.values import Float32, JsonValue, Version

__all__ = ["artefact_key", "compile_artefact", "size_bytes"]

_PACKAGES = ("numpy", "onnx", "onnxruntime", "onnxscript", "tensorrt", "tensorrt-rtx", "torch", "xgboost")
_SAMPLE_ROWS = 1024


def compile_artefact(version: Version, engine: JsonValue, sample: Float32 | None = None) -> Path:
    """Return the folder of what the engine built for the version, building it if it is missing or damaged.

    It is built aside and moved into place, so that a reader sees all of it or nothing, and of many builders one
    wins. The first ``sample`` given, [n, features], is kept (1,024 rows spread evenly over it) and used for every
    build of the version, so that an artefact can be built again without data and is then the same.
    """
    name, options, made = build_engine(engine, where="engine")
    folder = engine_folder(version)
    target = folder / artefact_key(version, name, options)
    if _holds(target):
        return target
    rows = _kept_sample(version, sample)
    aside = folder / f".{target.name}.{uuid4().hex[:8]}"
    aside.mkdir(parents=True)
    try:
        made.compile(version.path, aside, sample=rows)
        built = {
            "engine": name,
            "options": options,
            "packages": _packages(),
            "code": code_digest("engine"),
            "source": version.digest,
            "files": {path.relative_to(aside).as_posix(): digest_file(path) for path in _files(aside)},
        }
        write_aside(aside / "built.json", dumps(built, indent=True))
        _move(aside, target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target


def artefact_key(version: Version, name: str, options: dict[str, JsonValue]) -> str:
    """Return the name of an artefact's folder: what it was built from, by what, with which packages and code."""
    return digest([version.digest, name, options, _packages(), code_digest("engine")])[:32]


def size_bytes(version: Version, artefact: Path) -> int:
    """Return the bytes that an engine reads: those of the artefact, or of the version's model if it is empty."""
    built = sum(path.stat().st_size for path in _files(artefact))
    models = (path for path in version.path.glob("model.*") if path.name != "model.json")
    return built or sum(path.stat().st_size for path in models)


def _packages() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = installed(name)
        except PackageNotFoundError:
            continue
    return found


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "built.json")


def _holds(target: Path) -> bool:
    try:
        files = json.loads((target / "built.json").read_bytes())["files"]
        return all(digest_file(target / name) == sha for name, sha in files.items())
    except (OSError, ValueError, KeyError):
        return False


def _kept_sample(version: Version, sample: Float32 | None) -> Float32:
    path = engine_folder(version) / "sample.npy"
    if sample is not None and len(sample) and not path.exists():
        spread = np.unique(np.linspace(0, len(sample) - 1, min(len(sample), _SAMPLE_ROWS)).astype(np.int64))
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(sample[spread], dtype=np.float32), allow_pickle=False)
        write_aside(path, buffer.getvalue(), replace=False)
    if not path.exists():
        return np.empty((0, read_model(version.path).features), dtype=np.float32)
    try:
        kept: Float32 = np.load(path, allow_pickle=False)
    except ValueError as error:  # cut off, or objects in place of numbers
        raise EngineError(f"{path}: holds no rows ({error}); remove it and run `raymlops optimize` again") from error
    return kept


def _move(aside: Path, target: Path) -> None:
    try:
        aside.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if _holds(target):
            return  # another builder was first, with the same words
        damaged = target.with_name(f"{aside.name}.damaged")
        target.rename(damaged)
        aside.rename(target)
        shutil.rmtree(damaged, ignore_errors=True)
