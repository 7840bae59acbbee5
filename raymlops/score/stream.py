"""The runs that a spec needs: one for a source, for a stream one after another. Knows nothing of offsets, files or Ray.

A stream is scored once. Its ranges form a chain: link 7 is the plan of one run, with the range in its source, and lies
in `streams/NAME/DIGEST/00007.json`. It is put there if absent before a row is read, and only when the run of link 6 is
committed, from where that one's source ended. So two drivers agree about every range, no two runs hold a row, and what
was begun is finished as it was begun, also when another version is the champion by then.
"""

from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import orjson

from raymlops import registry
from raymlops.codec import digest, dumps, write_aside
from raymlops.data import run_folder
from raymlops.plugins import build
from raymlops.protocols import Sink, Source, Stream
from raymlops.score.piece import Plan
from raymlops.score.plan import make_plan, sink_of
from raymlops.spec import Spec, home
from raymlops.telemetry import say
from raymlops.values import Piece

__all__ = ["needed_runs"]

# What may change while a run is open, because it decides nothing about a row that is done.
_FREE = ("max_dead_share", "max_dead_rows", "unreadable", "workers")


def needed_runs(
    spec: Spec, *, model: str | None = None, on: str | None = None
) -> Iterator[tuple[Plan, Sequence[Piece]]]:
    """Yield plan and pieces of each run; take the next one only when the last is committed.

    A stream needs what an earlier command left open, then what is there now; nothing if nothing is new.
    """
    value = spec.score.source or spec.data.source
    source: Source | Stream = build("raymlops.data.sources", value, where="score.source")
    if not isinstance(source, Stream):
        yield make_plan(spec, model=model, on=on)
        return
    version = registry.resolve(model or spec.name)
    sink: Sink = build("raymlops.data.sinks", sink_of(spec, version), where="score.sink")
    chain = home() / "streams" / version.name / digest([source.identity(), sink.source("")])[:16]
    while True:
        number, last = _newest(chain, spec)
        if last is not None and not _is_committed(last):
            say(f"score: run {last.run} of {last.version} is open, it is finished first")
            yield last, _pieces(last)
        for cut in source.since(last.source if last else None):
            plan, pieces = make_plan(spec, model=model, on=on, source=cut)
            number += 1
            if not write_aside(_link(chain, number), _to_json(plan), replace=False):
                break  # another driver was quicker: its range comes first
            yield plan, pieces
        else:
            return


def _newest(chain: Path, spec: Spec) -> tuple[int, Plan | None]:
    number = max((int(path.stem) for path in chain.glob("*.json")), default=0)
    return number, _from_json(_link(chain, number).read_bytes(), spec) if number else None


def _link(chain: Path, number: int) -> Path:
    return chain / f"{number:05}.json"


def _is_committed(plan: Plan) -> bool:
    return (run_folder(plan.version.name, plan.run) / "manifest.json").exists()


def _pieces(plan: Plan) -> Sequence[Piece]:
    source: Source = build("raymlops.data.sources", plan.source, where="score.source")
    return source.pieces()


def _to_json(plan: Plan) -> bytes:
    value = {field.name: getattr(plan, field.name) for field in fields(plan)}
    spec = plan.spec.model_dump(mode="json", by_alias=True)
    return dumps({**value, "spec": spec, "version": str(plan.version)}, indent=True)


def _from_json(link: bytes, spec: Spec) -> Plan:
    value: dict[str, Any] = orjson.loads(link)
    begun = Spec.model_validate(value["spec"])
    score = begun.score.model_copy(update={name: getattr(spec.score, name) for name in _FREE})
    kind, options = value["engine"]
    return Plan(**{
        **value,
        "spec": begun.model_copy(update={"score": score}),
        "version": registry.resolve(str(value["version"])),
        "engine": (kind, options),
        "quarantine": score.unreadable == "quarantine",
    })  # fmt: skip
