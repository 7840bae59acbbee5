"""The models of an endpoint: loaded from version folders, held as one value. Knows nothing of HTTP or Ray.

`Models` never changes: a new version makes a new `Models`, and a request that has begun ends on the one it began with.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from raymlops.codec import Datatype
from raymlops.contract import Contract, Screen, answer_schema
from raymlops.data import read_contract
from raymlops.errors import NotFound, RaymlopsError
from raymlops.plugins import suggestion
from raymlops.protocols import Predictor
from raymlops.registry import check_loaded
from raymlops.values import Version

__all__ = ["Model", "Models", "Wanted", "find", "load", "next_models"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A model version to serve; ``max_rows`` is the most rows of one request.

    ``choice`` is the digest of the engine and options that were chosen for it: another choice is loaded anew.
    ``batching`` are the words of `batch.Batching`, None where requests are answered one by one. Unless ``strict``,
    another engine that kept the budget answers where the chosen one cannot be loaded.
    """

    name: str
    number: int
    digest: str
    path: str
    max_rows: int
    choice: str = ""
    batching: Mapping[str, Any] | None = None
    strict: bool = False

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Wanted":
        """Read the words of `Wanted` from a mapping that may hold more."""
        return cls(
            name=str(value["name"]),
            number=int(value["number"]),
            digest=str(value["digest"]),
            path=str(value["path"]),
            max_rows=int(value["max_rows"]),
            choice=str(value.get("choice", "")),
            batching=value.get("batching"),
            strict=bool(value.get("strict", False)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A loaded version: what its rows must look like, what answers them, by which engine, under which names.

    ``passed`` are the engines before it that could not be loaded, and why.
    """

    wanted: Wanted
    contract: Contract
    predictor: Predictor
    engine: str
    variant: str = "champion"
    passed: tuple[tuple[str, RaymlopsError], ...] = ()
    screen: Screen = field(init=False)
    outputs: tuple[tuple[str, Datatype], ...] = field(init=False)

    def __post_init__(self) -> None:
        """Make ready what every request needs."""
        named = answer_schema(self.contract.label)
        outputs = tuple((name, "BYTES" if pa.types.is_string(kind) else "FP32") for name, kind in named)
        object.__setattr__(self, "screen", Screen.of(self.contract))
        object.__setattr__(self, "outputs", outputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """Loaded models by name, and why a wanted one could not be loaded, by (name, number)."""

    loaded: Mapping[str, Model] = field(default_factory=lambda: MappingProxyType({}))
    failed: Mapping[tuple[str, int], str] = field(default_factory=lambda: MappingProxyType({}))


def find(models: Models, name: str, version: str | None) -> Model:
    """Return the model of a name and, if given, of exactly this version; raise NotFound naming what is served."""
    model = models.loaded.get(name)
    if model is None:
        names = tuple(models.loaded)
        raise NotFound(f"model {name!r:.80}: is not served{suggestion(name, names)}; served are {_list(names)}")
    if version is not None and version != str(model.wanted.number):
        raise NotFound(f"model {name!r} version {version!r:.80}: is not served; served is {model.wanted.number}")
    return model


def load(wanted: Wanted) -> Model:
    """Load a version's contract and its chosen engine, or the next that may answer in its place.

    Raise NotFound without the folder, Conflict when its bytes are not those that were registered and signed, or what
    the engine raises. The bytes come first: XGBoost ends the whole process on some damaged files (measured, 3.2, an
    empty one).
    """
    from raymlops.engine import answering, fallback

    path = Path(wanted.path)
    if not path.is_dir():
        raise NotFound(f"{wanted.name}@{wanted.number}: {path} is not a folder on this machine; every node needs it")
    version = Version(name=wanted.name, number=wanted.number, digest=wanted.digest, path=path)
    check_loaded(version)
    passed: list[tuple[str, RaymlopsError]] = []
    answers = answering(
        version,
        fallback=() if wanted.strict else fallback(version),
        on_fallback=lambda engine, reason: passed.append((engine, reason)),
        threads=1,
    )
    for engine, reason in passed:
        log.warning("%s: engine %s cannot answer, %s does: %s", version, engine, answers.engine, reason)
    return Model(
        wanted=wanted,
        contract=read_contract(path),
        predictor=answers.predictor,
        engine=answers.engine,
        passed=tuple(passed),
    )


def next_models(old: Models, wanted: Iterable[Wanted], *, load: Callable[[Wanted], Model] = load) -> Models:
    """Return the models after `old`: what is wanted and loaded already is kept, the rest is loaded.

    A version that cannot be loaded is noted in `failed`, and the version of that name which answered so far goes
    on answering: one broken folder takes nothing else down.
    """
    loaded: dict[str, Model] = {}
    failed: dict[tuple[str, int], str] = {}
    for want in wanted:
        before = old.loaded.get(want.name)
        if before is not None and before.wanted == want:
            loaded[want.name] = before
            continue
        try:
            loaded[want.name] = load(want)
        except Exception as error:  # the border to engines, which raise what they like
            log.error("model not loaded", extra={"model": want.name, "version": want.number}, exc_info=error)
            failed[want.name, want.number] = f"{type(error).__name__}: {error}"
            if before is not None:
                loaded[want.name] = before
    return Models(loaded=MappingProxyType(loaded), failed=MappingProxyType(failed))


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "none"
