"""What becomes of a step: pure decisions over what the ledger holds, what is asked and what Ray says.

`step(state, event)` gives the next state and what to do; it knows no database, no Ray and no clock but the event's.
A step is done when the ledger says so: Ray's word is a hint, since Ray calls live jobs FAILED and forgets others.
"""

from dataclasses import dataclass, replace
from typing import Literal

__all__ = [
    "Action",
    "Asked",
    "Attach",
    "Event",
    "Failed",
    "Finished",
    "JobState",
    "Limits",
    "Observed",
    "Phase",
    "Report",
    "Skip",
    "Started",
    "State",
    "Stop",
    "Submit",
    "Wait",
    "step",
]

Phase = Literal["absent", "claimed", "running", "done", "failed"]
JobState = Literal["missing", "pending", "running", "succeeded", "failed", "stopped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Where a step stands. `tries` counts attempts since somebody last asked anew; `since` is when this one began."""

    phase: Phase = "absent"
    attempt: int = 0
    tries: int = 0
    since: float = 0.0
    cause: str = ""
    final: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Tries before the cause is shown, seconds of one attempt, and seconds from a claim to a job that Ray knows."""

    attempts: int
    timeout_s: float
    grace_s: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Somebody wants the step; `outputs_exist` tells whether what it made is still there.

    `used` is the highest attempt whose name Ray knows already, from a ledger that is gone.
    """

    now: float
    outputs_exist: bool = False
    used: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Ray was asked for the job of an attempt; `final` tells that another attempt would end the same way."""

    now: float
    attempt: int
    job: JobState
    cause: str = ""
    final: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The process of an attempt began its work."""

    now: float
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The process of an attempt has made its result visible."""

    now: float
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """An attempt cannot end well, by the word of its own process or of who submitted it."""

    now: float
    attempt: int
    cause: str
    final: bool = False


Event = Asked | Observed | Started | Finished | Failed


@dataclass(frozen=True, slots=True)
class Submit:
    """Give this attempt to Ray."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Attach:
    """Another submission runs this attempt: wait for it."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Stop:
    """End the job of this attempt."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Skip:
    """The step is done."""


@dataclass(frozen=True, slots=True)
class Wait:
    """All slots are taken: ask again."""


@dataclass(frozen=True, slots=True)
class Report:
    """The step failed for good: show why."""

    cause: str


Action = Submit | Attach | Stop | Skip | Wait | Report


def step(state: State, event: Event, *, limits: Limits, free: int) -> tuple[State, tuple[Action, ...]]:
    """Return the next state and what is to be done; `free` is the number of slots that other steps leave.

    An event of an older attempt changes nothing: that attempt has been superseded.
    """
    match event:
        case Asked():
            return _asked(state, event, free=free)
        case Observed():
            return _observed(state, event, limits=limits, free=free)
        case Started() if _is_current(state, event.attempt):
            return replace(state, phase="running", since=event.now), ()
        case Finished() if _is_current(state, event.attempt):
            return replace(state, phase="done", cause="", final=False), ()
        case Failed() if _is_current(state, event.attempt):
            return replace(state, phase="failed", cause=event.cause, final=event.final), ()
    return state, ()


def _is_current(state: State, attempt: int) -> bool:
    return state.phase in ("claimed", "running") and state.attempt == attempt


def _asked(state: State, event: Asked, *, free: int) -> tuple[State, tuple[Action, ...]]:
    if state.phase in ("claimed", "running"):
        return state, (Attach(state.attempt),)
    if state.phase == "done" and event.outputs_exist:
        return state, (Skip(),)
    return _claimed(state, event.now, tries=1, free=free, used=event.used)


def _claimed(state: State, now: float, *, tries: int, free: int, used: int = 0) -> tuple[State, tuple[Action, ...]]:
    if free < 1:
        return state, (Wait(),)
    attempt = max(state.attempt, used) + 1
    return State(phase="claimed", attempt=attempt, tries=tries, since=now), (Submit(attempt),)


def _observed(state: State, event: Observed, *, limits: Limits, free: int) -> tuple[State, tuple[Action, ...]]:
    if state.phase == "done":
        return state, (Skip(),)
    if state.phase == "failed":
        if state.final or state.tries >= limits.attempts:
            return state, (Report(state.cause),)
        after, actions = _claimed(state, event.now, tries=state.tries + 1, free=free)
        # Kept while the next attempt runs, so that it can be seen why there is one.
        return replace(after, cause=state.cause), actions
    if not _is_current(state, event.attempt):
        return state, ()
    age = event.now - state.since
    if age > limits.timeout_s:
        cause = f"ran for {age:.0f} s, longer than submit.timeout_s={limits.timeout_s:g}"
        return _lost(state, cause, final=False), (Stop(state.attempt),)
    if event.job in ("pending", "running"):
        return state, ()
    if event.job == "missing":
        # Between the claim and the answer of Ray nobody but the claimer knows the job.
        if state.phase == "claimed" and age <= limits.grace_s:
            return state, ()
        return _lost(state, "Ray no longer knows the job: its cluster was ended", final=False), ()
    if event.job == "succeeded":
        return _lost(state, event.cause or "the job ended with code 0 but recorded no result", final=True), ()
    return _lost(
        state, event.cause or f"Ray calls the job {event.job}", final=event.final or event.job == "stopped"
    ), ()


def _lost(state: State, cause: str, *, final: bool) -> State:
    return replace(state, phase="failed", cause=cause, final=final)
