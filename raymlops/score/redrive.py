"""Which dead rows are scored again: those that the last run of a source and window left dead. Knows no rows.

A redrive is a run of its own, named after what decides about its rows and the run that it redrives. What it leaves dead
is for the next one, so that redrives form a chain behind a run; the run itself stays as it is.
"""

from collections.abc import Iterator, Sequence
from functools import partial

from raymlops import registry
from raymlops.codec import dumps
from raymlops.data import ScoreManifest, committed_scores, read_contract
from raymlops.errors import SpecError
from raymlops.plugins import build
from raymlops.protocols import Source, Stream
from raymlops.score.piece import Plan
from raymlops.score.plan import make_plan
from raymlops.spec import Spec
from raymlops.values import JsonValue, Piece

__all__ = ["needed_redrive"]


def needed_redrive(
    spec: Spec, *, model: str | None = None, on: str | None = None
) -> Iterator[tuple[Plan, Sequence[Piece]]]:
    """Yield plan and pieces of the newest redrive that is needed, else of the last one made; nothing without either.

    Of a redrive since which nothing changed no other is needed. Raise SpecError without `data.key`.
    """
    if not spec.data.key:
        raise SpecError("data.key: not given, and dead rows are found again by it; name it, or score without --redrive")
    version = registry.resolve(model or spec.name)
    if not read_contract(version.path).key:
        raise SpecError(
            f"data.key: {version} was trained without it, and dead rows are found again by it; train with it, or score "
            "without --redrive"
        )
    finished = None
    for chain in _chains(spec, committed_scores(version.name), on):
        plan = partial(make_plan, spec, model=model, on=chain[0].on, source=_source(spec, chain[0]))
        last = chain[-1]
        if last.redrives and (again := plan(redrives=last.redrives))[0].run == last.run:
            finished = finished or again
        elif last.dead or last.quarantined:
            yield plan(redrives=last.run)
            return
    if finished:
        yield finished


def _chains(spec: Spec, made: Sequence[ScoreManifest], on: str | None) -> Iterator[list[ScoreManifest]]:
    """Yield each last run of its input and window with its redrives behind it, the newest run first."""
    seen = set()
    for run in reversed(made):
        if run.redrives or not _is_of(spec, run.input) or (on is not None and run.on != on):
            continue
        if (of := dumps([run.input, run.on])) in seen:
            continue
        seen.add(of)
        chain = [run]
        while after := [one for one in made if one.redrives == chain[-1].run]:
            chain.append(after[-1])
        yield chain


def _is_of(spec: Spec, given: JsonValue) -> bool:
    value = spec.score.source or spec.data.source
    if dumps(value) == dumps(given):
        return True
    now, then = (build("raymlops.data.sources", one, where="score.source") for one in (value, given))
    return isinstance(now, Stream) and isinstance(then, Stream) and now.identity() == then.identity()


def _source(spec: Spec, run: ScoreManifest) -> JsonValue | None:
    """Return the range of a stream that the run read, None for a source that is read as it is now."""
    now: Source = build("raymlops.data.sources", spec.score.source or spec.data.source, where="score.source")
    return run.input if isinstance(now, Stream) else None
