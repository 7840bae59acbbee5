"""The score stage: plan, resume, account, commit. Knows nothing of Ray; `on_ray.py` carries the pieces out."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from raymlops import registry
from raymlops.codec import digest, dumps, write_aside
from raymlops.contract import name_problems, schema_problems
from raymlops.data import prepare, read_contract, read_scores
from raymlops.engine import chosen
from raymlops.errors import DataError, SpecError, StageFailed
from raymlops.plugins import build
from raymlops.protocols import Source
from raymlops.score.piece import PieceCount, Plan, read_count
from raymlops.spec import Spec, home
from raymlops.telemetry import progress, say
from raymlops.values import JsonValue, Piece

__all__ = ["run"]


def run(
    spec: Spec,
    *,
    model: str | None = None,
    on: str | None = None,
    may_commit: Callable[[], None] = lambda: None,
    on_cluster: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> dict[str, JsonValue]:
    """Score the rows of a window, or of `score.source`, with a version; default is the model's champion.

    The same rows, version, engine and spec are the same run: what is done is not done again. `on_cluster` holds a
    connection to Ray; it is entered only if there is something to do.
    """
    prepare(spec)
    plan, pieces = _plan(spec, model, on)
    if (plan.folder / "manifest.json").exists():
        say(f"score: run {plan.run} is finished, nothing to do")
        return _summary(plan)
    left = [(index, piece) for index, piece in enumerate(pieces) if read_count(plan.folder, index) is None]
    say(f"score: run {plan.run}, {plan.version}, {len(left)} of {len(pieces)} pieces to do")
    with on_cluster() if left else nullcontext():
        counts = _score(plan, pieces, left)
    may_commit()
    _commit(plan, counts)
    return _summary(plan)


def _plan(spec: Spec, model: str | None, on: str | None) -> tuple[Plan, Sequence[Piece]]:
    version = registry.resolve(model or spec.name)
    window = on or spec.score.on or (None if spec.score.source else _default_window(spec))
    if window is not None and window not in spec.data.windows:
        raise SpecError(f"score.on: {window!r} is not in data.windows ({', '.join(spec.data.windows)})")
    value = spec.score.source or spec.data.source
    source = build("raymlops.data.sources", value, where="score.source" if spec.score.source else "data.source")
    assert isinstance(source, Source)
    contract, schema = read_contract(version.path), source.schema()
    problems = schema_problems(contract, schema)
    problems += name_problems(contract.label, {"data.key": contract.key, "score.keep": spec.score.keep})
    problems += [
        f"score.keep: column {name!r} is not in the source" for name in spec.score.keep if name not in schema.names
    ]
    if problems:
        raise DataError(*problems)
    pieces = source.pieces()
    engine = chosen(version)
    run_id = digest(
        [
            [[piece.part, piece.rows, piece.fingerprint] for piece in pieces],
            version.digest,
            version.number,
            list(engine),
            window,
            spec.data.model_dump(mode="json"),
            list(spec.score.keep),
        ]
    )[:16]
    folder = home() / "scores" / version.name / run_id
    plan = Plan(
        spec=spec, version=version, engine=engine, source=value, on=window, run=run_id, folder=folder, threads=1
    )
    return plan, pieces


def _default_window(spec: Spec) -> str:
    if "production" in spec.data.windows:
        return "production"
    raise SpecError(
        f"score.on: name one of data.windows ({', '.join(spec.data.windows)}), for none is called production; "
        "or name the rows in score.source, all of which are scored"
    )


def _score(plan: Plan, pieces: Sequence[Piece], left: Sequence[tuple[int, Piece]]) -> list[PieceCount]:
    from raymlops.score.on_ray import score_pieces

    done = {i: count for i in range(len(pieces)) if (count := read_count(plan.folder, i)) is not None}
    total = sum(piece.rows or 0 for _, piece in left) or len(left)
    with progress("score", total=total, unit="rows" if left and left[0][1].rows else "pieces") as advance:
        for count in score_pieces(plan, left, workers=plan.spec.score.workers) if left else ():
            done[count.index] = count
            dead = sum(one.dead for one in done.values())
            advance(count.rows_in if left[0][1].rows else 1, f"{dead:,} dead letters" if dead else "")
            _within_budget(plan, list(done.values()), ended=False)
    counts = [done[index] for index in range(len(pieces))]
    _within_budget(plan, counts, ended=True)
    return counts


def _within_budget(plan: Plan, counts: Sequence[PieceCount], *, ended: bool) -> None:
    dead, seen = sum(count.dead for count in counts), sum(count.scored + count.dead for count in counts)
    # While rows are still to come, only a share of many rows says something.
    if seen == 0 or dead / seen <= plan.spec.score.max_dead_share or not (ended or seen >= 10_000):
        return
    rules = Counter[str]()
    for count in counts:
        rules.update(count.rules)
    worst = "; ".join(f"{rule} ({rows:,} rows)" for rule, rows in rules.most_common(5))
    raise DataError(
        f"score: {dead:,} of {seen:,} rows break the contract, over score.max_dead_share="
        f"{plan.spec.score.max_dead_share:g}: {worst}. Each row is in {plan.folder / 'dead'}; nothing was published"
    )


def _commit(plan: Plan, counts: Sequence[PieceCount]) -> None:
    totals = {name: sum(getattr(count, name) for count in counts) for name in ("rows_in", "scored", "dead", "filtered")}
    if totals["rows_in"] != totals["scored"] + totals["dead"] + totals["filtered"]:
        raise StageFailed(f"score: rows do not add up: {totals}; nothing was published")
    manifest = {
        "run": plan.run,
        "name": plan.version.name,
        "number": plan.version.number,
        "digest": plan.version.digest,
        "on": plan.on,
        **totals,
        "files": [{k: asdict(c)[k] for k in ("name", "scored", "sha256")} for c in counts],
        "engine": list(plan.engine),
        "keep": list(plan.spec.score.keep),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_aside(plan.folder / "manifest.json", dumps(manifest, indent=True), replace=False)


def _summary(plan: Plan) -> dict[str, JsonValue]:
    made = read_scores(plan.folder)
    say(f"score: {made.rows_in:,} rows in = {made.scored:,} scored + {made.dead:,} dead + {made.filtered:,} filtered")
    return {
        "run": made.run,
        "model": f"{made.name}@{made.number}",
        "on": made.on,
        "rows_in": made.rows_in,
        "scored": made.scored,
        "dead": made.dead,
        "filtered": made.filtered,
        "folder": str(Path(made.path)),
        "outputs": [str(made.path / "manifest.json")],
    }
