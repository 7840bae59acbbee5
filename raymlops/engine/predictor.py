"""The predictor of a version, by the engine that was chosen for it. Knows nothing of who asks."""

from raymlops.engine.artefact import compile_artefact
from raymlops.engine.choice import build_engine, chosen, engine_folder
from raymlops.errors import EngineError, SpecError
from raymlops.protocols import Predictor
from raymlops.values import JsonValue, Version

__all__ = ["predictor"]


def predictor(
    version: Version, *, engine: tuple[str, dict[str, JsonValue]] | None = None, threads: int = 1
) -> Predictor:
    """Return the version, ready to answer with at most `threads` threads a call.

    `engine`, a name and its options, is by default the one that `optimize` chose, native where it never ran; its
    artefact is built if it is missing.
    Raise EngineError if that engine cannot run the version: another one never answers in its place.
    """
    name, options = engine or chosen(version)
    where = f"{engine_folder(version)}/choice.json"
    try:
        _, _, made = build_engine({name: options}, where=where)
        artefact = compile_artefact(version, {name: options})
        return made.load(version.path, artefact, threads=threads)
    except (OSError, ImportError, SpecError) as error:
        raise EngineError(f"{version}: engine {name!r} ({where}) cannot run it: {error}") from error
