"""The ledger: one SQLite row a step and a schedule, the only truth about what was done. Knows nothing of Ray or stages.

Every change is one transaction that holds the write lock while `decide.step` decides, so of many processes that ask
for the same step one runs it. The rollback journal is kept: WAL needs shared memory, which network disks lack.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson

from raymlops.codec import dumps
from raymlops.errors import Conflict
from raymlops.spec import home
from raymlops.submit import schedule as due
from raymlops.submit.decide import Action, Event, Failed, Finished, Limits, Phase, Started, State, step
from raymlops.submit.timetable import TIMETABLE, Schedule, read_schedule, read_schedules, write_schedule
from raymlops.values import JsonValue

__all__ = ["Ledger", "Step", "submission_id"]

_BUSY_S = 30.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS steps (
    identity TEXT PRIMARY KEY,
    sealed   TEXT,                      -- the identity once its data, made by the step itself, can be read
    stage    TEXT NOT NULL,
    name     TEXT NOT NULL,
    spec     TEXT NOT NULL,
    address  TEXT NOT NULL,
    state    TEXT NOT NULL CHECK (state IN ('claimed', 'running', 'done', 'failed')),
    attempt  INTEGER NOT NULL,
    tries    INTEGER NOT NULL,
    since    REAL NOT NULL,             -- seconds of the epoch
    started  REAL,
    finished REAL,
    process  TEXT NOT NULL DEFAULT '',  -- HOST:PID
    cause    TEXT NOT NULL DEFAULT '',
    final    INTEGER NOT NULL DEFAULT 0,
    outputs  TEXT NOT NULL DEFAULT '[]',
    result   TEXT NOT NULL DEFAULT '{}'
)
"""
_COLUMNS = (
    "identity, sealed, stage, name, spec, address, state, attempt, tries, since, started, finished, process, cause, "
    "final, outputs, result"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One row. `outputs` are paths and URLs; times are seconds of the epoch."""

    identity: str
    stage: str
    name: str
    spec: str = ""
    address: str = ""
    sealed: str | None = None
    state: State = field(default_factory=State)
    started: float | None = None
    finished: float | None = None
    process: str = ""
    outputs: tuple[str, ...] = ()
    result: dict[str, JsonValue] = field(default_factory=dict)

    @property
    def submission_id(self) -> str:
        """Return Ray's name of the current attempt."""
        return submission_id(self.stage, self.identity, self.state.attempt)


def submission_id(stage: str, identity: str, attempt: int) -> str:
    """Return Ray's name of an attempt.

    >>> submission_id("train", "0123456789abcdef", 2)
    'train-0123456789ab-a2'
    """
    return f"{stage}-{identity[:12]}-a{attempt}"


@dataclass(frozen=True, slots=True)
class Ledger:
    """A ledger file; it is made on first use, and each call opens and closes it."""

    path: Path = field(default_factory=lambda: home() / "ledger.db")

    def find(self, identity: str) -> Step | None:
        """Return the step of an identity, also of a sealed one, or None."""
        with self._open() as database:
            return _read(database, identity)

    def steps(self) -> list[Step]:
        """Return all steps, the latest begun last."""
        with self._open() as database:
            return [_step(row) for row in database.execute(f"SELECT {_COLUMNS} FROM steps ORDER BY since, rowid")]

    def active(self) -> list[Step]:
        """Return the steps that take a slot."""
        return [found for found in self.steps() if found.state.phase in ("claimed", "running")]

    def advance(
        self, subject: Step, event: Event, *, limits: Limits, running: int, lease: due.Lease | None = None
    ) -> tuple[Step, tuple[Action, ...]]:
        """Apply an event to a step in one transaction; `subject` gives what a new row is to say.

        At most `running` steps of the ledger are claimed or running after a claim. A `lease` is renewed by this; raise
        Conflict, and change nothing, when it is another's by now.
        """
        with self._writing() as database:
            if lease is not None:
                _hold(database, lease, now=event.now)
            found = _read(database, subject.identity)
            before = found.state if found else State()
            (taken,) = database.execute(
                "SELECT count(*) FROM steps WHERE state IN ('claimed', 'running') AND identity != ?",
                (found.identity if found else subject.identity,),
            ).fetchone()
            after, actions = step(before, event, limits=limits, free=running - taken)
            if after != before:
                _write(database, subject, found, after, event)
            # An identity that was asked for under its sealed name keeps its row and the row's name.
            return _read(database, subject.identity) or subject, actions

    def report(
        self,
        subject: Step,
        event: Started | Finished | Failed,
        *,
        process: str = "",
        result: dict[str, JsonValue] | None = None,
    ) -> bool:
        """Apply what the process of an attempt says; return False, and change nothing, if it was superseded.

        A step that this ledger does not hold, or only in an older attempt, was submitted with another ledger, on
        another machine: its row is made.
        """
        with self._writing() as database:
            found = _read(database, subject.identity)
            before = found.state if found else State()
            if isinstance(event, Started) and before.attempt < event.attempt:
                before = State(phase="claimed", attempt=event.attempt, tries=1, since=event.now)
            after, _ = step(before, event, limits=Limits(attempts=1, timeout_s=0), free=0)
            if after == before:
                return False
            _write(database, subject, found, after, event, process=process, result=result)
            return True

    def schedules(self) -> list[Schedule]:
        """Return all schedules, by name."""
        with self._open() as database:
            return read_schedules(database)

    def turn(self, subject: Schedule, event: due.Event, *, rule: due.Rule) -> due.Action | None:
        """Apply an event to a schedule in one transaction and return what is to be done.

        `subject` gives what the row says beside the state, which who only asks and is refused does not change.
        """
        with self._writing() as database:
            found = read_schedule(database, subject.identity)
            before = found.state if found else due.State()
            after, action = due.turn(before, event, rule=rule)
            says = found if found and isinstance(action, due.Busy) else subject
            if replace(says, state=after) != found:
                write_schedule(database, replace(says, state=after))
            return action

    def seal(self, identity: str, sealed: str) -> None:
        """Let a step also be found under the identity that it has now that its data can be read; the first stays."""
        with self._writing() as database:
            database.execute(
                "UPDATE steps SET sealed = ? WHERE identity = ? AND sealed IS NULL AND identity != ?",
                (sealed, identity, sealed),
            )

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None)
        try:
            database.row_factory = sqlite3.Row
            database.execute(_SCHEMA)
            database.execute(TIMETABLE)
            yield database
        finally:
            database.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._open() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
            except BaseException:
                database.execute("ROLLBACK")
                raise
            database.execute("COMMIT")


def _hold(database: sqlite3.Connection, lease: due.Lease, *, now: float) -> None:
    found = read_schedule(database, lease.schedule)
    state, action = due.turn(
        found.state if found else due.State(), due.Hold(now=now, fence=lease.fence), rule=lease.rule
    )
    if found is None or action is not None:
        by = found.state.holder if found else ""
        raise Conflict(f"the lease of the schedule was taken over by {by or 'another one, that ended'}, which goes on")
    if state != found.state:
        write_schedule(database, replace(found, state=state))


def _read(database: sqlite3.Connection, identity: str) -> Step | None:
    query = f"SELECT {_COLUMNS} FROM steps WHERE identity = ?1 OR sealed = ?1 ORDER BY identity = ?1 DESC LIMIT 1"
    row = database.execute(query, (identity,)).fetchone()
    return _step(row) if row else None


def _step(row: sqlite3.Row) -> Step:
    phase: Phase = row["state"]
    state = State(
        phase=phase,
        attempt=row["attempt"],
        tries=row["tries"],
        since=row["since"],
        cause=row["cause"],
        final=bool(row["final"]),
    )
    plain = ("identity", "sealed", "stage", "name", "spec", "address", "started", "finished", "process")
    return Step(
        **{name: row[name] for name in plain},
        state=state,
        outputs=tuple(orjson.loads(row["outputs"])),
        result=orjson.loads(row["result"]),
    )


def _write(
    database: sqlite3.Connection,
    subject: Step,
    found: Step | None,
    after: State,
    event: Event,
    *,
    process: str = "",
    result: dict[str, JsonValue] | None = None,
) -> None:
    claimed = after.attempt != (found.state.attempt if found else 0)
    ended = after.phase in ("done", "failed")
    kept = None if claimed else found
    started = event.now if isinstance(event, Started) else kept.started if kept else None
    row: Sequence[object] = (
        found.identity if found else subject.identity,
        found.sealed if found else None,
        subject.stage,
        subject.name or (found.name if found else ""),
        subject.spec or (found.spec if found else ""),
        subject.address or (found.address if found else ""),
        after.phase,
        after.attempt,
        after.tries,
        after.since,
        started,
        event.now if ended else None,
        process or (kept.process if kept else ""),
        after.cause,
        int(after.final),
        dumps((result or {}).get("outputs") or []).decode(),
        dumps(result or {}).decode(),
    )
    database.execute(f"INSERT OR REPLACE INTO steps ({_COLUMNS}) VALUES ({', '.join('?' * len(row))})", row)
