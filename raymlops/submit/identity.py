"""What a step is: a digest of all that its result depends on. Equal identities make equal results, so one is enough.

Knows nothing of what was done already.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from raymlops.codec import code_digest, digest, digest_file
from raymlops.data import source_digest
from raymlops.errors import RaymlopsError, SpecError
from raymlops.plugins import build, suggestion
from raymlops.protocols import Source
from raymlops.spec import Spec, expand
from raymlops.values import JsonValue

__all__ = ["STAGES", "Identity", "checked_stages", "identity_of"]

STAGES = ("train", "optimize", "score", "serve", "monitor")
_BEFORE: Mapping[str, str] = {"optimize": "train", "score": "optimize", "serve": "optimize", "monitor": "score"}
_WHEN = {"every", "catch_up"}  # when a stage is done changes nothing of what it makes
_SECTIONS: Mapping[str, tuple[str, ...]] = {"train": ("name", "data", "train")}


@dataclass(frozen=True, slots=True)
class Identity:
    """`now` counts the data as it is. `pending` is what the step was called while its data was still to be made
    by the prepare script; None when the spec has none. While the data is not there they are the same.
    """

    now: str
    pending: str | None


def checked_stages(stages: Sequence[str]) -> tuple[str, ...]:
    """Return the stages, once each; SpecError names every one that is unknown or given twice."""
    problems = [
        f"stage {stage!r}: unknown{suggestion(stage, STAGES)}, known are {', '.join(STAGES)}"
        for stage in dict.fromkeys(stages)
        if stage not in STAGES
    ]
    problems += [f"stage {stage!r}: given twice; keep one" for stage in STAGES if list(stages).count(stage) > 1]
    if not stages:
        problems.append(f"submit: name one stage or more, of {', '.join(STAGES)}")
    if problems:
        raise SpecError(*problems)
    return tuple(stages)


def identity_of(stage: str, spec: Spec, *, arguments: Sequence[str], here: bool) -> Identity:
    """Return the identity of a stage; `here` tells whether the job will see the files that this process sees.

    DataError: the data is there but cannot be read.
    """
    champion = None if "--model" in arguments or stage == "train" else _champion(spec.name)
    common: dict[str, JsonValue] = {
        "code": code_digest(),
        "prepare": _prepare_digest(spec),
        "champion": champion,
        "arguments": list(arguments),
        "scored": _scored(spec, here=here) if stage in ("score", "monitor") else None,
    }
    now = _chained(stage, spec, common | {"data": _data(spec, here=here)})
    return Identity(now, None if spec.data.prepare is None else _chained(stage, spec, common | {"data": "pending"}))


def _chained(stage: str, spec: Spec, common: Mapping[str, JsonValue]) -> str:
    before = _BEFORE.get(stage)
    included = {*_SECTIONS.get(stage, (stage,))}
    sections = spec.model_dump(mode="json", by_alias=True, include=included, exclude={"score": _WHEN})
    return digest([stage, sections, dict(common), _chained(before, spec, common) if before else None])


def _prepare_digest(spec: Spec) -> str | None:
    script = Path(expand(spec.data.prepare)) if spec.data.prepare else None
    return digest_file(script) if script and script.is_file() else None


def _data(spec: Spec, *, here: bool) -> JsonValue:
    source = build("raymlops.data.sources", spec.data.source, where="data.source")
    path = getattr(source, "path", None)
    if spec.data.prepare is not None and isinstance(path, str) and not Path(expand(path)).exists():
        return "pending"
    return _fingerprints(source, here=here)


def _scored(spec: Spec, *, here: bool) -> JsonValue:
    if spec.score.source is None:
        return None
    return _fingerprints(build("raymlops.data.sources", spec.score.source, where="score.source"), here=here)


def _fingerprints(source: Source, *, here: bool) -> JsonValue:
    try:
        return source_digest(source)
    except (RaymlopsError, OSError):
        if here:
            raise
        # Another machine's files: whether they changed cannot be seen from here.
        return "elsewhere"


def _champion(name: str) -> str | None:
    """Return the digest of the model that a stage would take, which an alias moves without the spec changing."""
    from raymlops.registry import listed

    return next((version.digest for version in listed(name) if "champion" in version.aliases), None)
