"""The score stage: attempt, resume, account, commit. Knows nothing of Ray; `on_ray.py` carries the pieces out."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from datetime import UTC, datetime
from functools import cache
from importlib import import_module
from pathlib import Path
from threading import Thread

from raymlops import registry
from raymlops.codec import dumps, write_aside
from raymlops.data import read_scores, run_folder
from raymlops.errors import Conflict, DataError, StageFailed
from raymlops.plugins import build
from raymlops.protocols import Sink, Source
from raymlops.score.account import Account
from raymlops.score.ledger import Attempt, PieceCount, begin, done, recording
from raymlops.score.meter import committed, metered
from raymlops.score.piece import Plan
from raymlops.score.plan import remember
from raymlops.score.redrive import needed_redrive
from raymlops.score.sought import DEAD, left_out, sought
from raymlops.score.stream import needed_runs
from raymlops.spec import Spec
from raymlops.telemetry import progress, say
from raymlops.values import JsonValue, Piece

__all__ = ["run"]


def run(
    spec: Spec,
    *,
    model: str | None = None,
    on: str | None = None,
    redrive: bool = False,
    may_commit: Callable[[], None] = lambda: None,
    on_cluster: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> dict[str, JsonValue]:
    """Score the rows of a window, or of `score.source`, with a version; default is the model's champion.

    The same rows, version, engine and spec are the same run: what is done is not done again. Of a stream, that is what
    came since the last committed run of the model, whatever its version: in one run or several, of which the result is
    the last's. With `redrive` only the rows that the last run left dead. A later attempt at a run takes it over from an
    earlier one, which may then not commit. `on_cluster` holds a connection to Ray; it is entered only if there is
    something to do.
    """
    registry.allow("deployer", spec.name)
    with ExitStack() as held:
        connected = cache(lambda: held.enter_context(on_cluster()))
        runs = needed_redrive if redrive else needed_runs
        made = [_run(*needed, connected, may_commit) for needed in runs(spec, model=model, on=on)]
    if not made:
        say("score: nothing to redrive" if redrive else "score: nothing new")
        return {"run": None, "rows_in": 0, "scored": 0, "dead": 0, "filtered": 0, "quarantined": [], "outputs": []}
    return {**made[-1], "outputs": [f"{one['folder']}/manifest.json" for one in made]}


def _run(
    plan: Plan, pieces: Sequence[Piece], connected: Callable[[], object], may_commit: Callable[[], None]
) -> dict[str, JsonValue]:
    folder = run_folder(plan.version.name, plan.run)
    if _finished(folder):
        say(f"score: run {plan.run} is finished, nothing to do")
        return _summary(folder)
    remember(plan, pieces)
    with begin(folder) as attempt:
        # What could not be read may have been a disk that was away: it is tried again.
        there = {index: count for index, count in done(folder).items() if not count.cause}
        left = [(index, piece) for index, piece in enumerate(pieces) if index not in there]
        say(f"score: run {plan.run}, {plan.version}, {len(left)} of {len(pieces)} pieces to do")
        if left:
            # Ray takes a second to import, in which a cluster may be starting.
            Thread(target=import_module, args=("raymlops.score.on_ray",), daemon=True).start()
            connected()
        counts = _score(plan, attempt, there, left)
        attempt.check()
        may_commit()
        _commit(plan, attempt, [counts[index] for index in range(len(pieces))], pieces)
    return _summary(folder)


def _finished(folder: Path) -> bool:
    """Return whether the run was committed and its rows are still where the sink put them; else forget it."""
    if not (folder / "manifest.json").exists():
        return False
    scores = read_scores(folder)
    source: Source = build("raymlops.data.sources", scores.source, where="the manifest's source")
    try:
        if scores.scored == 0 or source.pieces():
            return True
        why = "none is left"
    except DataError as error:
        why = str(error)
    say(f"score: run {scores.run} was committed, but its rows are gone; it is done again ({why})")
    _forget(folder)
    return False


def _forget(folder: Path) -> None:
    """Remove the record of a committed run, the manifest last: until then it is known as one to be forgotten."""
    for path in folder.iterdir():
        if path.name != "manifest.json":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(folder)


def _score(
    plan: Plan, attempt: Attempt, there: Mapping[int, PieceCount], left: Sequence[tuple[int, Piece]]
) -> dict[int, PieceCount]:
    counts, account = dict(there), Account()
    for count in there.values():
        account.add(count)
    where = str(attempt.folder / f".{DEAD}")
    if left:
        from raymlops.score.on_ray import score_pieces

        known = all(piece.rows is not None for _, piece in left)
        total = sum(piece.rows or 0 for _, piece in left) if known else len(left)
        rows, pieces = total if known else None, len(there) + len(left)
        with (
            progress("score", total=total, unit="rows" if known else "pieces") as advance,
            metered(plan.version.name, account, total=rows, pieces=pieces) as meter,
        ):
            for count in score_pieces(plan, left, workers=plan.spec.score.workers):
                attempt.add(count)
                attempt.check()
                counts[count.index] = count
                account.add(count)
                advance(count.rows_in if known else 1, f"{account.dead:,} dead letters" if account.dead else "")
                meter.update()
                account.check(plan.spec.score, where=where, ended=False)
    account.check(plan.spec.score, where=where, ended=True)
    return counts


def _commit(plan: Plan, attempt: Attempt, counts: Sequence[PieceCount], pieces: Sequence[Piece]) -> None:
    totals = {name: sum(getattr(count, name) for count in counts) for name in ("rows_in", "scored", "dead", "filtered")}
    parts = [part for count in counts for part in count.parts]
    if totals["rows_in"] != totals["scored"] + totals["dead"] + totals["filtered"]:
        raise StageFailed(f"score: rows do not add up: {totals}; nothing was published")
    if totals["scored"] != sum(part.rows for part in parts):
        raise StageFailed(
            f"score: {totals['scored']:,} rows scored, {sum(p.rows for p in parts):,} written; nothing was published"
        )
    before = sought(plan.version.name, plan.redrives) if plan.redrives else None
    missing = before.missing(counts, pieces) if before else 0
    sink: Sink = build("raymlops.data.sinks", plan.sink, where="score.sink")
    manifest = dumps(
        {
            "run": plan.run,
            "name": plan.version.name,
            "number": plan.version.number,
            "digest": plan.version.digest,
            "engine": list(plan.engine),
            "on": plan.on,
            **totals,
            "quarantined": left_out(counts, pieces, within=before),
            "redrives": plan.redrives,
            "missing": missing,
            "files": [{"name": part.name, "rows": part.rows, "sha256": part.sha256} for part in parts],
            "keep": list(plan.spec.score.keep),
            "input": plan.source,
            "source": sink.source(plan.run),
            "attempt": attempt.number,
            "finished": datetime.now(UTC).isoformat(timespec="milliseconds"),
        },
        indent=True,
    )
    try:
        first = sink.commit(run=plan.run, parts=parts, manifest=manifest)
    except StageFailed as error:
        raise StageFailed(*error.problems, f"to score every piece anew, remove {attempt.folder}") from error
    grave: Sink = build("raymlops.data.sinks", plan.dead, where="dead letters")
    grave.commit(run=DEAD, parts=[part for count in counts for part in count.letters], manifest=b"{}")
    with recording(attempt.folder):
        recorded = write_aside(attempt.folder / "manifest.json", manifest, replace=False)
    if not first and not recorded:
        raise Conflict(f"score: run {plan.run} was committed by another attempt meanwhile; its rows are there, once")
    committed(plan.version.name)


def _summary(folder: Path) -> dict[str, JsonValue]:
    made = read_scores(folder)
    say(f"score: {made.rows_in:,} rows in = {made.scored:,} scored + {made.dead:,} dead + {made.filtered:,} filtered")
    if made.missing:
        say(f"score: {made.missing:,} dead rows of run {made.redrives} are not in the source any more, or have no key")
    for file in made.quarantined:
        say(f"score: left out, unreadable: {file}")
    return {
        "run": made.run,
        "model": f"{made.name}@{made.number}",
        "on": made.on,
        "rows_in": made.rows_in,
        "scored": made.scored,
        "dead": made.dead,
        "filtered": made.filtered,
        "quarantined": list(made.quarantined),
        "redrives": made.redrives,
        "missing": made.missing,
        "source": made.source,
        "folder": str(folder),
        "outputs": [str(folder / "manifest.json")],
    }
