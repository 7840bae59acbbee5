"""The ledger's rows of schedules: one for each, with its lease and the period that is under way. Decides nothing."""

import sqlite3
from dataclasses import dataclass, field
from datetime import datetime

from raymlops.spec import Cron, Period
from raymlops.submit.schedule import State

__all__ = ["TIMETABLE", "Schedule", "read_schedule", "read_schedules", "write_schedule"]

TIMETABLE = """
CREATE TABLE IF NOT EXISTS schedules (
    identity TEXT PRIMARY KEY,
    name     TEXT NOT NULL,
    spec     TEXT NOT NULL,
    every    TEXT NOT NULL,
    through  TEXT,                      -- ISO 8601, UTC: all before it is settled
    period   TEXT,                      -- FROM/TO, begun and not settled
    holder   TEXT NOT NULL,             -- HOST:PID, empty if nobody has the lease
    fence    INTEGER NOT NULL,
    expires  REAL NOT NULL              -- seconds of the epoch
)
"""
_COLUMNS = "identity, name, spec, every, through, period, holder, fence, expires"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One row. `every` is the cron expression that the last holder had in its spec."""

    identity: str
    name: str
    spec: str
    every: str
    state: State = field(default_factory=State)

    @property
    def driver(self) -> str:
        """Return what the ids of the jobs that keep it begin with, but for `-a` and a number."""
        return f"schedule-{self.identity[:12]}"

    @property
    def due(self) -> datetime | None:
        """Return when the period under way or the next one is due, UTC; None before the schedule has begun."""
        if self.state.period is not None:
            return self.state.period.end
        return Cron(self.every).after(self.state.through) if self.state.through else None


def read_schedule(database: sqlite3.Connection, identity: str) -> Schedule | None:
    """Return the schedule of an identity, or None."""
    row = database.execute(f"SELECT {_COLUMNS} FROM schedules WHERE identity = ?", (identity,)).fetchone()
    return _schedule(row) if row else None


def read_schedules(database: sqlite3.Connection) -> list[Schedule]:
    """Return all schedules, by name."""
    return [_schedule(row) for row in database.execute(f"SELECT {_COLUMNS} FROM schedules ORDER BY name, spec")]


def write_schedule(database: sqlite3.Connection, schedule: Schedule) -> None:
    """Write a schedule's row, over the one that is there."""
    state = schedule.state
    row = (
        schedule.identity,
        schedule.name,
        schedule.spec,
        schedule.every,
        state.through.isoformat() if state.through else None,
        str(state.period) if state.period else None,
        state.holder,
        state.fence,
        state.expires,
    )
    database.execute(f"INSERT OR REPLACE INTO schedules ({_COLUMNS}) VALUES ({', '.join('?' * len(row))})", row)


def _schedule(row: sqlite3.Row) -> Schedule:
    state = State(
        through=datetime.fromisoformat(row["through"]) if row["through"] else None,
        period=Period.parse(row["period"]) if row["period"] else None,
        holder=row["holder"],
        fence=row["fence"],
        expires=row["expires"],
    )
    return Schedule(**{name: row[name] for name in ("identity", "name", "spec", "every")}, state=state)
