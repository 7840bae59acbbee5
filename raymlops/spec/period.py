"""A period of time, and how the `score` section of a spec speaks of the one that it scores. Knows no clock.

`${period_start}` and `${period_end}` are moments as `2026-11-24T03:00:00`, or in any form of strftime, as
`${period_start:%Y/%m/%d}`; `${period}` is FROM/TO, which is also a window by itself.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from raymlops.values import JsonValue

__all__ = ["Period", "fill", "in_utc", "speaks_of_period"]

_WORD = re.compile(r"\$\{period(?:_(?P<side>start|end)(?::(?P<form>[^}]+))?)?\}")
_ANY = re.compile(r"\$\{period[^}]*\}?")


@dataclass(frozen=True, slots=True)
class Period:
    """[start, end), UTC without a zone.

    >>> str(Period.parse("2026-11-24/2026-11-25T01:00+01:00"))
    '2026-11-24T00:00:00/2026-11-25T00:00:00'
    """

    start: datetime
    end: datetime

    def __str__(self) -> str:
        return f"{self.start.isoformat()}/{self.end.isoformat()}"

    @staticmethod
    def parse(text: str) -> "Period":
        """Return the period FROM/TO, two moments in ISO 8601, UTC where no zone is given; ValueError: it is none."""
        try:
            start, end = (in_utc(datetime.fromisoformat(side)) for side in text.split("/"))
        except ValueError as error:
            raise ValueError(f"{text!r} is not FROM/TO, as 2026-11-24T03:00/2026-11-25T03:00: {error}") from error
        if start >= end:
            raise ValueError(f"{text!r}: FROM is not before TO")
        return Period(start, end)


def in_utc(moment: datetime) -> datetime:
    """Return a naive datetime in UTC; without a zone the moment is taken as it stands."""
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def speaks_of_period(value: JsonValue) -> bool:
    """Return whether a text, or one inside of lists and mappings, holds `${period…}`."""
    if isinstance(value, str):
        return _ANY.search(value) is not None
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(speaks_of_period(one) for one in inner)


def fill(value: JsonValue, period: Period) -> JsonValue:
    """Return a value with the period filled into each text of it; ValueError names a word that is none.

    >>> fill({"path": "rows/day=${period_start:%Y-%m-%d}"}, Period.parse("2026-11-24/2026-11-25"))
    {'path': 'rows/day=2026-11-24'}
    """
    if isinstance(value, dict):
        return {name: fill(one, period) for name, one in value.items()}
    if isinstance(value, list):
        return [fill(one, period) for one in value]
    return _ANY.sub(lambda found: _filled(found[0], period), value) if isinstance(value, str) else value


def _filled(word: str, period: Period) -> str:
    found = _WORD.fullmatch(word)
    if found is None:
        known = "${period}, ${period_start}, ${period_end} and forms as ${period_start:%Y-%m-%d}"
        raise ValueError(f"{word!r} is unknown; known are {known}")
    if found["side"] is None:
        return str(period)
    moment = period.start if found["side"] == "start" else period.end
    return moment.strftime(found["form"] or "%Y-%m-%dT%H:%M:%S")
