"""The laws of a schedule, for every order in which processes ask, are paused, die, and clocks are set."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raymlops.spec import Cron, Period
from raymlops.submit.schedule import Action, Ask, Busy, Hold, Lost, Release, Rest, Rule, Run, Settle, State, turn

CatchUp = Literal["all", "last"]
NOON = datetime(2026, 11, 24, 12, 30)
START = NOON.replace(tzinfo=UTC).timestamp()
HOUR = 3600.0
# What moves a period on comes more often than what disturbs it, so that lives get somewhere.
VERBS = (*["ask", "begin", "settle"] * 3, *["end badly", "clock"] * 2, "end well", "crash", "release")
LIVES = st.lists(
    st.tuples(st.sampled_from(VERBS), st.integers(0, 1), st.sampled_from([25.0, 61.0, HOUR, 5 * HOUR, -2 * HOUR])),
    min_size=20,
    max_size=60,
)


def rule(catch_up: CatchUp = "all") -> Rule:
    return Rule(every=Cron("hourly"), catch_up=catch_up, lease_s=60)


def hours(first: int, last: int) -> Period:
    return Period(NOON.replace(hour=first, minute=0), NOON.replace(hour=last, minute=0))


@dataclass(slots=True)
class Process:
    """What one process believes."""

    fence: int = 0
    period: Period | None = None


@dataclass(slots=True)
class World:
    """The ledger and a job for each period, as `run_step` would begin it: again only if it failed."""

    rule: Rule
    now: float = START
    state: State = field(default_factory=State)
    jobs: dict[Period, str] = field(default_factory=dict)
    settled: list[Period] = field(default_factory=list)
    processes: list[Process] = field(default_factory=lambda: [Process() for _ in range(2)])

    def does(self, verb: str, who: int, seconds: float) -> Action | None:
        process = self.processes[who]
        match verb:
            case "ask":
                return self.ask(process, f"host:{who}")
            case "begin" if process.period:
                self.begin(process, process.period)
            case "end well" | "end badly":
                ended = "done" if verb == "end well" else "failed"
                self.jobs = {period: ended if how == "runs" else how for period, how in self.jobs.items()}
            case "settle" if process.period and self.jobs.get(process.period) in ("done", "failed"):
                self.settle(process, process.period)
            case "release":
                self.turn(Release(now=self.now, fence=process.fence))
                self.processes[who] = Process()
            case "crash":
                self.processes[who] = Process()
            case "clock":
                self.now += seconds
        return None

    def ask(self, process: Process, holder: str) -> Action | None:
        action = self.turn(Ask(now=self.now, holder=holder, fence=process.fence, since=hours(6, 7).start))
        process.fence = action.fence if isinstance(action, Run | Rest) else 0
        process.period = action.period if isinstance(action, Run) else None
        return action

    def begin(self, process: Process, period: Period) -> None:
        if self.turn(Hold(now=self.now, fence=process.fence)) is not None:
            process.period = None
        elif self.jobs.get(period) in (None, "failed"):
            assert period not in self.settled, "begun again after it was settled"
            assert "runs" not in self.jobs.values(), "two at once"
            self.jobs[period] = "runs"

    def settle(self, process: Process, period: Period) -> None:
        before = self.state.through
        self.turn(Settle(now=self.now, fence=process.fence, period=period))
        process.period = None
        if self.state.through != before:
            self.settled.append(period)

    def turn(self, event: Ask | Hold | Settle | Release) -> Action | None:
        self.state, action = turn(self.state, event, rule=self.rule)
        return action

    def calm_down(self) -> None:
        """Let one process live on, undisturbed, until nothing is due."""
        self.processes = [Process()]
        for _ in range(300):
            action = self.does("ask", 0, 0)
            if isinstance(action, Rest):
                return
            # A lease of a clock that was set back is cut when somebody asks, and then ends as any other.
            self.now += self.rule.lease_s + 1 if isinstance(action, Busy) else 0
            for verb in ("begin", "end well", "settle"):
                self.does(verb, 0, 0)
        raise AssertionError("it never comes to rest")


@settings(max_examples=200, deadline=None)
@given(LIVES)
def test_with_catch_up_all_every_period_is_settled_once_and_in_order(life: list[tuple[str, int, float]]) -> None:
    world = World(rule=rule())
    for event in life:
        world.does(*event)
    world.calm_down()

    assert all(before.end == after.start for before, after in pairwise(world.settled))
    assert all(period.end == world.rule.every.after(period.start) for period in world.settled)
    assert list(world.jobs) == world.settled
    assert world.state.through is not None
    assert world.state.through >= world.rule.every.latest(datetime.fromtimestamp(world.now, UTC).replace(tzinfo=None))


@settings(max_examples=200, deadline=None)
@given(LIVES)
def test_with_catch_up_last_no_period_is_settled_twice_and_the_last_one_is(life: list[tuple[str, int, float]]) -> None:
    world = World(rule=rule("last"))
    for event in life:
        world.does(*event)
    world.calm_down()

    assert all(before.end <= after.start for before, after in pairwise(world.settled))
    assert all(period.end == world.rule.every.after(period.start) for period in world.settled)
    assert world.state.through is not None
    assert world.state.through >= world.rule.every.latest(datetime.fromtimestamp(world.now, UTC).replace(tzinfo=None))


@given(LIVES, st.sampled_from(["all", "last"]))
def test_a_lease_has_one_holder_and_its_fence_only_rises(life: list[tuple[str, int, float]], catch_up: CatchUp) -> None:
    world = World(rule=rule(catch_up))
    for event in life:
        before = world.state
        world.does(*event)
        assert world.state.fence >= before.fence
        assert (world.state.holder != before.holder) <= (world.state.fence > before.fence or not world.state.holder)


def asked(state: State, now: float, **more: object) -> tuple[State, Action | None]:
    catch_up: CatchUp = "last" if more.pop("catch_up", "all") == "last" else "all"
    return turn(state, replace(Ask(now=now, holder="b:2"), **more), rule=rule(catch_up))  # type: ignore[arg-type]


HELD = State(through=hours(11, 12).end, holder="a:1", fence=3, expires=START + 60)


def test_a_new_schedule_waits_for_the_period_under_way_to_end() -> None:
    state, action = asked(State(), START)

    assert action == Rest(NOON.replace(hour=13, minute=0), 1)
    assert asked(state, START + HOUR, fence=1)[1] == Run(hours(12, 13), 1)


def test_a_new_schedule_catches_up_from_where_it_is_told_to_begin() -> None:
    since = NOON.replace(hour=9, minute=15)

    assert asked(State(), START, since=since)[1] == Run(Period(since, NOON.replace(hour=10, minute=0)), 1)
    assert isinstance(asked(HELD, START + 61, since=since)[1], Rest)


def test_who_asks_while_the_lease_is_out_is_told_who_has_it_and_until_when() -> None:
    state, action = asked(HELD, START)

    assert (state, action) == (HELD, Busy("a:1", START + 60))


def test_a_lease_that_ended_is_taken_over_with_the_period_that_was_begun() -> None:
    state, action = asked(replace(HELD, period=hours(12, 13)), START + 61)

    assert action == Run(hours(12, 13), 4)
    assert turn(state, Hold(now=START + 62, fence=3), rule=rule()) == (state, Lost("b:2"))
    assert turn(state, Settle(now=START + 62, fence=3, period=hours(12, 13)), rule=rule()) == (state, Lost("b:2"))
    assert turn(state, Release(now=START + 62, fence=3), rule=rule()) == (state, Lost("b:2"))


def test_what_a_holder_settled_already_is_not_settled_again() -> None:
    late = turn(HELD, Settle(now=START, fence=3, period=hours(10, 11)), rule=rule())

    assert late == (HELD, None)


def test_a_holder_whose_lease_ended_goes_on_if_nobody_took_it() -> None:
    state, action = turn(HELD, Hold(now=START + 500, fence=3), rule=rule())

    assert (state.expires, action) == (START + 560, None)


def test_a_lease_is_written_anew_only_when_a_third_of_it_is_gone() -> None:
    assert turn(HELD, Hold(now=START + 19, fence=3), rule=rule())[0] == HELD
    assert turn(HELD, Hold(now=START + 21, fence=3), rule=rule())[0].expires == START + 81


def test_a_lease_of_a_clock_that_was_set_back_ends_as_any_other() -> None:
    state, action = asked(HELD, START - 5 * HOUR)

    assert action == Busy("a:1", START - 5 * HOUR + 60)
    assert isinstance(asked(state, START - 5 * HOUR + 61)[1], Rest)


@pytest.mark.parametrize(
    ("catch_up", "first", "skips"),
    [
        pytest.param("all", hours(12, 13), None, id="each"),
        pytest.param("last", hours(15, 16), hours(12, 15), id="the last one"),
    ],
)
def test_what_came_due_while_nothing_ran_is_caught_up_with_as_the_spec_says(
    catch_up: str, first: Period, skips: Period | None
) -> None:
    _, action = asked(HELD, START + 4 * HOUR, catch_up=catch_up)

    assert action == Run(first, 4, skips)


@pytest.mark.parametrize("catch_up", ["all", "last"])
def test_another_every_leaves_no_moment_out(catch_up: CatchUp) -> None:
    """At 12:30 the schedule becomes a daily one, due at 3: what came since 12:00 is in its first period."""
    daily = Rule(every=Cron("0 3 * * *"), catch_up=catch_up)
    _, action = turn(HELD, Ask(now=START + 24 * HOUR, holder="b:2"), rule=daily)

    assert action == Run(Period(NOON.replace(hour=12, minute=0), datetime(2026, 11, 25, 3)), 4)
