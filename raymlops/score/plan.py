"""What a batch run will do, decided before it begins, and why it is not an earlier run. Knows nothing of Ray."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import orjson

from raymlops import registry
from raymlops.codec import digest, dumps, write_aside
from raymlops.contract import Contract, name_problems, schema_problems
from raymlops.data import prepare, read_contract, run_folder
from raymlops.engine import chosen, gpus
from raymlops.errors import DataError, SpecError
from raymlops.plugins import build
from raymlops.protocols import Source
from raymlops.score.ledger import recording
from raymlops.score.piece import Plan
from raymlops.score.sought import sought
from raymlops.spec import Spec, home
from raymlops.telemetry import say
from raymlops.values import JsonValue, Piece, Version

__all__ = ["make_plan", "remember", "sink_of", "what_changed"]


def make_plan(
    spec: Spec, *, model: str | None = None, on: str | None = None, source: JsonValue | None = None, redrives: str = ""
) -> tuple[Plan, Sequence[Piece]]:
    """Return the plan of a run and the pieces of its input; `source` takes the place of the spec's, and
    `redrives` names the run of which only the dead rows are scored, without a budget: they were counted there.

    The run's name is a digest of what decides about its rows: the pieces, the version, its engine, the window, the
    columns and the sink. Raise SpecError or DataError with everything that is wrong.
    """
    prepare(spec)
    version = registry.resolve(model or spec.name)
    window = on or spec.score.on or (None if spec.score.source else _default_window(spec))
    if window is not None:
        spec.data.window(window, where="score.on")
    value = source or spec.score.source or spec.data.source
    rows: Source = build("raymlops.data.sources", value, where="score.source" if spec.score.source else "data.source")
    quarantine = spec.score.unreadable == "quarantine"
    problems = _problems(spec, read_contract(version.path), rows, quarantine=quarantine)
    if problems:
        raise DataError(*problems)
    pieces = rows.pieces()
    if redrives:
        pieces = sought(version.name, redrives).pieces(pieces)
        free = spec.score.model_copy(update={"max_dead_share": 1.0, "max_dead_rows": None})
        spec = spec.model_copy(update={"score": free})
    engine = chosen(version)
    sink = sink_of(spec, version)
    run = digest(_parts(spec, version, engine=engine, window=window, sink=sink, pieces=pieces, redrives=redrives))[:16]
    plan = Plan(
        spec=spec,
        version=version,
        engine=engine,
        source=value,
        sink=sink,
        dead={"parquet": {"path": str(run_folder(version.name, run))}},
        on=window,
        run=run,
        threads=1,
        gpus=gpus(*engine),
        quarantine=quarantine,
        redrives=redrives,
    )
    return plan, pieces


def sink_of(spec: Spec, version: Version) -> JsonValue:
    """Return the sink of a version's answers: `score.sink`, else Parquet below the home."""
    return spec.score.sink or {"parquet": {"path": str(home() / "scores" / version.name)}}


def remember(plan: Plan, pieces: Sequence[Piece]) -> Path:
    """Write the run's plan into its folder, which is made, and return the folder; say how it differs from the last."""
    folder = run_folder(plan.version.name, plan.run)
    now = _parts(
        plan.spec,
        plan.version,
        engine=plan.engine,
        window=plan.on,
        sink=plan.sink,
        pieces=pieces,
        redrives=plan.redrives,
    )
    with recording(folder):
        new = write_aside(folder / "plan.json", dumps(now, indent=True), replace=False)
    if new and not plan.redrives:
        changed = what_changed(folder, now)
        if changed:
            say(f"score: a new run, for {changed}")
    return folder


def what_changed(folder: Path, now: Mapping[str, JsonValue]) -> str:
    """Return what differs from the newest other run of the model, as words; empty if there is none but redrives."""
    others = sorted(
        (p for p in folder.parent.glob("*/plan.json") if p.parent != folder), key=lambda p: p.stat().st_mtime
    )
    plans = {path.parent.name: orjson.loads(path.read_bytes()) for path in others}
    whole = {run: plan for run, plan in plans.items() if "redrives" not in plan}
    if not whole:
        return ""
    run, before = [*whole.items()][-1]
    words = [f"{name} changed" for name in now if name != "input" and before.get(name) != now[name]]
    if before.get("input") != now["input"]:
        words.insert(0, "the input changed")
    return f"{', '.join(words)} since run {run}" if words else ""


def _parts(
    spec: Spec,
    version: Version,
    *,
    engine: tuple[str, dict[str, JsonValue]],
    window: str | None,
    sink: JsonValue,
    pieces: Sequence[Piece],
    redrives: str,
) -> dict[str, JsonValue]:
    parts: dict[str, JsonValue] = {
        "input": digest([[piece.part, piece.parts, piece.rows, piece.fingerprint] for piece in pieces]),
        "model": [str(version), version.digest],
        "engine": [engine[0], engine[1]],
        "window": window,
        "data": spec.data.model_dump(mode="json", include={"windows", "time", "key"}),
        "keep": list(spec.score.keep),
        "sink": sink,
        "unreadable": spec.score.unreadable,
    }
    return {**parts, "redrives": redrives} if redrives else parts


def _problems(spec: Spec, contract: Contract, source: Source, *, quarantine: bool) -> list[str]:
    problems = name_problems(contract.label, {"data.key": contract.key, "score.keep": spec.score.keep})
    try:
        schema = source.schema()
    except DataError:
        if not quarantine:
            raise
        return problems  # each piece is judged when it is read
    problems += schema_problems(contract, schema)
    problems += [
        f"score.keep: column {name!r} is not in the source" for name in spec.score.keep if name not in schema.names
    ]
    return problems


def _default_window(spec: Spec) -> str:
    if "production" in spec.data.windows:
        return "production"
    raise SpecError(
        f"score.on: name one of data.windows ({', '.join(spec.data.windows)}), for none is called production; "
        "or name the rows in score.source, all of which are scored"
    )
