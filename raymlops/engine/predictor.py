"""The predictor of a version, by the engine that was chosen for it. Knows nothing of who asks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from raymlops.engine.artefact import compile_artefact
from raymlops.engine.choice import build_engine, chosen, engine_folder
from raymlops.errors import EngineError, MissingExtra, RaymlopsError, SpecError
from raymlops.protocols import Predictor
from raymlops.values import JsonValue, Version

__all__ = ["Answering", "answering", "predictor"]

Words = tuple[str, dict[str, JsonValue]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """A predictor, and the name and options of the engine that answers in it."""

    predictor: Predictor
    engine: str
    options: dict[str, JsonValue]


def predictor(version: Version, *, engine: Words | None = None, threads: int = 1) -> Predictor:
    """Return the version, ready to answer with at most `threads` threads a call.

    `engine`, a name and its options, is by default the one that `optimize` chose, native where it never ran; its
    artefact is built if it is missing.
    Raise EngineError if that engine cannot run the version: another one never answers in its place.
    """
    return answering(version, engine=engine, threads=threads).predictor


def answering(
    version: Version,
    *,
    engine: Words | None = None,
    fallback: Sequence[JsonValue] = (),
    on_fallback: Callable[[str, RaymlopsError], None] = lambda engine, reason: None,
    threads: int = 1,
) -> Answering:
    """Return the version by the first engine that can run it: `engine`, as `predictor` has it, then the `fallback`.

    ``fallback`` are engines as a spec names them; without any this is as strict as `predictor`. ``on_fallback`` is
    told the name of each engine that could not, and why, before the next is tried. Raise EngineError, or MissingExtra
    where it is alone, with the reason of every one, when none can.
    """
    name, options = engine or chosen(version)
    reasons: list[RaymlopsError] = []
    every: list[JsonValue] = [{name: options}, *fallback]
    for words in every:
        try:
            return _by(version, words, threads=threads)
        except (EngineError, MissingExtra) as error:
            reasons.append(error)
            if len(reasons) < len(every):
                on_fallback(_name(words), error)
    if len(reasons) == 1:
        raise reasons[0]
    raise EngineError(f"{version}: no engine can run it", *(f"  {reason}" for reason in reasons)) from reasons[-1]


def _by(version: Version, words: JsonValue, *, threads: int) -> Answering:
    where = f"{engine_folder(version)}/choice.json"
    try:
        name, options, made = build_engine(words, where=where)
        artefact = compile_artefact(version, {name: options})
        return Answering(predictor=made.load(version.path, artefact, threads=threads), engine=name, options=options)
    except (OSError, ImportError, SpecError, RuntimeError, ValueError) as error:
        raise EngineError(f"{version}: engine {_name(words)!r} ({where}) cannot run it: {error}") from error


def _name(words: JsonValue) -> str:
    return str(next(iter(words), "")) if isinstance(words, dict) else str(words)
