"""What a schedule does next: pure decisions over what the ledger holds, who asks, and the clock of the event.

`turn(state, event)` gives the next state and what the asker is to do; it knows no database and no Ray. Periods lie end
to end: each begins where the last settled one ended, so that together they hold every moment once, also when the spec
gets another `every`. One lease is out at a time; whoever takes it over finds the period that was begun and settles that
first. The fence, which rises with every lease, tells a holder that was away too long from the present one.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from raymlops.spec import Cron, Period

__all__ = [
    "Action",
    "Ask",
    "Busy",
    "Event",
    "Hold",
    "Lease",
    "Lost",
    "Release",
    "Rest",
    "Rule",
    "Run",
    "Settle",
    "State",
    "turn",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Where a schedule stands: all up to `through` is settled, `period` is begun and not settled.

    `through` is None before anybody asked; the lease ends at `expires`, seconds of the epoch.
    """

    through: datetime | None = None
    period: Period | None = None
    holder: str = ""
    fence: int = 0
    expires: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a spec says of its schedule, and the seconds that a lease lasts unless it is renewed."""

    every: Cron
    catch_up: Literal["all", "last"] = "all"
    lease_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """What a holder has: the schedule's identity, its fence, and the rule that it was got by."""

    schedule: str
    fence: int
    rule: Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """`holder` asks what to do, with the `fence` of the lease that it has, 0 without one.

    A schedule that nobody asked for yet begins at `since`, else where the last period that is due ended.
    """

    now: float
    holder: str
    fence: int = 0
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """The holder of a lease is alive, and wants to go on with the period that is begun."""

    now: float
    fence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle:
    """The holder has brought a period to its end, good or bad."""

    now: float
    fence: int
    period: Period


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """The holder gives its lease back."""

    now: float
    fence: int


Event = Ask | Hold | Settle | Release


@dataclass(frozen=True, slots=True)
class Run:
    """Bring this period to its end, then settle it; `skips` is what `catch_up: last` leaves out before it."""

    period: Period
    fence: int
    skips: Period | None = None


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing is due until then."""

    until: datetime
    fence: int


@dataclass(frozen=True, slots=True)
class Busy:
    """Another one has the lease until then, or longer."""

    holder: str
    expires: float


@dataclass(frozen=True, slots=True)
class Lost:
    """The lease is not the asker's any more: it must begin nothing."""

    holder: str


Action = Run | Rest | Busy | Lost


def turn(state: State, event: Event, *, rule: Rule) -> tuple[State, Action | None]:
    """Return the next state and what the asker is to do, None where nothing but to go on."""
    held = event.fence == state.fence and state.holder != ""
    if isinstance(event, Ask):
        return _asked(state, event, rule, held=held)
    if not held:
        return state, Lost(state.holder)
    match event:
        case Settle():
            # What was settled already, by this holder, is not settled twice.
            settled = replace(state, through=event.period.end, period=None)
            return _renewed(settled if state.period == event.period else state, event.now, rule), None
        case Release():
            return replace(state, holder="", expires=0.0), None
    return _renewed(state, event.now, rule), None


def _asked(state: State, event: Ask, rule: Rule, *, held: bool) -> tuple[State, Action]:
    # No lease outlasts `lease_s` from now: a longer one is of a clock that was set back since.
    expires = min(state.expires, event.now + rule.lease_s)
    if state.holder and not held and event.now < expires:
        return replace(state, expires=expires), Busy(state.holder, expires)
    now = datetime.fromtimestamp(event.now, UTC).replace(tzinfo=None)
    through = state.through or event.since or rule.every.latest(now)
    fence = state.fence if held else state.fence + 1
    leased = replace(state, through=through, holder=event.holder, fence=fence, expires=event.now + rule.lease_s)
    if leased.period is not None:
        return leased, Run(leased.period, fence)
    period = _due(through, now, rule)
    if period is None:
        return leased, Rest(rule.every.after(through), fence)
    skips = Period(through, period.start) if period.start > through else None
    return replace(leased, period=period), Run(period, fence, skips)


def _due(through: datetime, now: datetime, rule: Rule) -> Period | None:
    """Return the period to begin now: the first one that is due, or the last; None if none is."""
    first = rule.every.after(through)
    if first > now:
        return None
    if rule.catch_up == "all":
        return Period(through, first)
    last = rule.every.latest(now)
    return Period(max(through, rule.every.before(last)), last)


def _renewed(state: State, now: float, rule: Rule) -> State:
    # Not at every word of the holder: each is a write to the ledger.
    late = state.expires - now < rule.lease_s * 2 / 3
    return replace(state, expires=now + rule.lease_s) if late else state
