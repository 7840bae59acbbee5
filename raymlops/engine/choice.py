"""Which engine answers for a version: one small file beside its artefacts. Knows nothing of how it was chosen."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast

from raymlops.codec import dumps, write_aside
from raymlops.errors import EngineError, SpecError
from raymlops.plugins import build
from raymlops.protocols import Engine
from raymlops.spec import home
from raymlops.values import JsonValue, Version

__all__ = ["build_engine", "chosen", "engine_folder", "fallback", "gpus", "write_choice"]


def engine_folder(version: Version) -> Path:
    """Return the folder of a version's choice and artefacts; it may not exist yet."""
    return home() / "engines" / version.digest


def build_engine(value: JsonValue, *, where: str) -> tuple[str, dict[str, JsonValue], Engine]:
    """Return the kind's name, all its options with their defaults filled in, and the engine itself."""
    made: Engine = build("raymlops.engine.engines", value, where=where)
    name = value if isinstance(value, str) else str(next(iter(cast("Mapping[str, JsonValue]", value))))
    options: dict[str, JsonValue] = json.loads(json.dumps(asdict(made)))  # type: ignore[call-overload]  # as a file has them
    return name, options, made


def gpus(name: str, options: dict[str, JsonValue]) -> float:
    """Return the share of a GPU that an engine needs, 0 for one not known here: whoever loads it will say so."""
    try:
        return build_engine({name: options}, where="engine")[2].gpus()
    except SpecError:
        return 0.0


def chosen(version: Version) -> tuple[str, dict[str, JsonValue]]:
    """Return the engine's name and options as `optimize` chose them, ("native", {}) where it never ran."""
    return _read(version)[:2]


def fallback(version: Version) -> tuple[JsonValue, ...]:
    """Return the engines that may answer where the chosen one cannot, the best first, each as a spec names it."""
    return _read(version)[2]


def write_choice(version: Version, engine: JsonValue, reason: str, *, fallback: Sequence[JsonValue] = ()) -> Path:
    """Write which engine answers for the version from now on, why, and which ones may where it cannot; return the file.

    Repeating it is safe.
    """
    name, options, _ = build_engine(engine, where="engine")
    path = engine_folder(version) / "choice.json"
    value = {"engine": name, "options": options, "reason": reason, "version": str(version), "digest": version.digest}
    others: list[JsonValue] = []
    for one in fallback:
        other, given, _ = build_engine(one, where="fallback")
        others.append({other: given})
    write_aside(path, dumps({**value, "fallback": others}, indent=True))
    return path


def _read(version: Version) -> tuple[str, dict[str, JsonValue], tuple[JsonValue, ...]]:
    path = engine_folder(version) / "choice.json"
    try:
        value = json.loads(path.read_bytes())
        return str(value["engine"]), dict(value["options"]), tuple(value.get("fallback", ()))
    except FileNotFoundError:
        return "native", {}, ()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError(f"{path}: is not a choice of an engine ({error!r}); run `raymlops optimize` again") from error
