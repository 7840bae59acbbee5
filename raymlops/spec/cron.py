"""When a schedule is due: five fields of cron, or a word, in UTC. Knows no clock and nothing of what is due.

UTC has no daylight saving, so that every due moment comes exactly once and no two of them are the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from cronsim import CronSim, CronSimError

__all__ = ["Cron"]

_WORDS: Mapping[str, str] = {
    "hourly": "0 * * * *",
    "daily": "0 0 * * *",
    "weekly": "0 0 * * 0",
    "monthly": "0 0 1 * *",
    "yearly": "0 0 1 1 *",
}
_ALLOWED = (
    f"five fields, minute hour day-of-month month day-of-week, in UTC, as `0 3 * * *`, or one of {', '.join(_WORDS)}"
)
_SOME_DAY = datetime(2000, 1, 1)


@dataclass(frozen=True, slots=True)
class Cron:
    """Moments are UTC without a zone.

    >>> Cron("0 3 * * *").after(datetime(2026, 11, 24, 3))
    datetime.datetime(2026, 11, 25, 3, 0)
    """

    expression: str

    def check(self) -> None:
        """Raise ValueError, which says what is allowed, if the expression is none or is never due."""
        fields = self._fields
        try:
            if len(fields.split()) != 5:
                raise CronSimError(f"{len(fields.split())} fields")
            if next(CronSim(fields, _SOME_DAY), None) is None:
                raise CronSimError("never due")
        except CronSimError as error:
            raise ValueError(f"is not a cron expression ({error}); give {_ALLOWED}") from error

    def after(self, moment: datetime) -> datetime:
        """Return the first due moment after another."""
        return next(CronSim(self._fields, moment))

    def before(self, moment: datetime) -> datetime:
        """Return the last due moment before another."""
        return next(CronSim(self._fields, moment, reverse=True))

    def latest(self, now: datetime) -> datetime:
        """Return the last due moment that is not after `now`."""
        return self.before(self.after(now))

    @property
    def _fields(self) -> str:
        return _WORDS.get(self.expression.removeprefix("@"), self.expression)
