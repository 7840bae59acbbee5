"""The laws of a step's life, for every order in which things can happen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymlops.submit.decide import (
    Action,
    Asked,
    Attach,
    Event,
    Failed,
    Finished,
    JobState,
    Limits,
    Observed,
    Report,
    Skip,
    Started,
    State,
    Stop,
    Submit,
    Wait,
    step,
)

ATTEMPTS = st.integers(1, 4)
JOBS: st.SearchStrategy[JobState] = st.sampled_from(["missing", "pending", "running", "succeeded", "failed", "stopped"])
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(Asked, now=st.floats(0, 500), outputs_exist=st.booleans(), used=st.integers(0, 3)),
    st.builds(Observed, now=st.floats(0, 500), attempt=ATTEMPTS, job=JOBS, cause=st.just("why"), final=st.booleans()),
    st.builds(Started, now=st.floats(0, 500), attempt=ATTEMPTS),
    st.builds(Finished, now=st.floats(0, 500), attempt=ATTEMPTS),
    st.builds(Failed, now=st.floats(0, 500), attempt=ATTEMPTS, cause=st.just("why"), final=st.booleans()),
)
LIVES = st.lists(st.tuples(EVENTS, st.integers(0, 2)), max_size=30)
LIMITS = st.builds(Limits, attempts=st.integers(1, 3), timeout_s=st.floats(1, 400))


def lived(life: list[tuple[Event, int]], limits: Limits) -> list[tuple[State, Event, int, State, tuple[Action, ...]]]:
    state, seen = State(), []
    for event, free in life:
        after, actions = step(state, event, limits=limits, free=free)
        seen.append((state, event, free, after, actions))
        state = after
    return seen


@given(LIVES, LIMITS)
def test_a_new_attempt_and_its_submission_go_together_and_attempts_only_rise(
    life: list[tuple[Event, int]], limits: Limits
) -> None:
    for before, _, _, after, actions in lived(life, limits):
        submitted = [action.attempt for action in actions if isinstance(action, Submit)]
        assert submitted == ([after.attempt] if after.attempt > before.attempt else [])
        assert after.attempt >= before.attempt


@given(LIVES, LIMITS)
def test_nothing_is_submitted_without_a_free_slot_or_beside_an_attempt_that_may_live(
    life: list[tuple[Event, int]], limits: Limits
) -> None:
    for before, _, free, _, actions in lived(life, limits):
        if any(isinstance(action, Submit) for action in actions):
            assert free > 0
            assert before.phase in ("absent", "done", "failed")


@given(LIVES, LIMITS)
def test_one_request_is_tried_no_more_often_than_the_limit_allows(
    life: list[tuple[Event, int]], limits: Limits
) -> None:
    tries = 0
    for _, event, _, _, actions in lived(life, limits):
        for action in actions:
            if isinstance(action, Submit):
                tries = 1 if isinstance(event, Asked) else tries + 1
                assert tries <= limits.attempts


@given(LIVES, LIMITS)
def test_what_concerns_another_attempt_than_the_present_one_changes_nothing(
    life: list[tuple[Event, int]], limits: Limits
) -> None:
    for before, event, _, after, _ in lived(life, limits):
        if not isinstance(event, Asked | Observed) and event.attempt != before.attempt:
            assert after == before


@given(LIVES, LIMITS)
def test_what_is_done_stays_done_until_somebody_misses_its_outputs(
    life: list[tuple[Event, int]], limits: Limits
) -> None:
    for before, event, _, after, actions in lived(life, limits):
        if before.phase == "done" and after != before:
            assert isinstance(event, Asked)
            assert not event.outputs_exist
        assert (Skip() in actions) <= (before.phase == "done")


@given(LIVES, LIMITS)
def test_a_final_failure_is_reported_and_never_retried_unasked(life: list[tuple[Event, int]], limits: Limits) -> None:
    for before, event, _, after, actions in lived(life, limits):
        if before.phase == "failed" and before.final and isinstance(event, Observed):
            assert (after, actions) == (before, (Report(before.cause),))


LIMIT = Limits(attempts=2, timeout_s=100, grace_s=10)
RUNNING = State(phase="running", attempt=1, tries=1, since=0)
CLAIMED = State(phase="claimed", attempt=1, tries=1, since=0)


@pytest.mark.parametrize(
    ("state", "event", "phase", "actions"),
    [
        pytest.param(State(), Asked(now=0), "claimed", (Submit(1),), id="first asked"),
        pytest.param(State(), Asked(now=0, used=4), "claimed", (Submit(5),), id="names used under a lost ledger"),
        pytest.param(State(phase="done", attempt=1), Asked(now=0), "claimed", (Submit(2),), id="outputs are gone"),
        pytest.param(RUNNING, Asked(now=0), "running", (Attach(1),), id="asked while it runs"),
        pytest.param(CLAIMED, Observed(now=5, attempt=1, job="missing"), "claimed", (), id="not known to Ray yet"),
        pytest.param(CLAIMED, Observed(now=11, attempt=1, job="missing"), "failed", (), id="claimer died"),
        pytest.param(RUNNING, Observed(now=5, attempt=1, job="missing"), "failed", (), id="cluster ended"),
        pytest.param(RUNNING, Observed(now=5, attempt=1, job="failed"), "failed", (), id="process ended"),
        pytest.param(RUNNING, Observed(now=5, attempt=1, job="succeeded"), "failed", (), id="no result"),
        pytest.param(RUNNING, Observed(now=101, attempt=1, job="running"), "failed", (Stop(1),), id="too long"),
        pytest.param(RUNNING, Observed(now=99, attempt=1, job="running"), "running", (), id="long, but in time"),
    ],
)
def test_each_turn_of_a_step(state: State, event: Event, phase: str, actions: tuple[Action, ...]) -> None:
    after, done = step(state, event, limits=LIMIT, free=1)

    assert (after.phase, done) == (phase, actions)


def test_a_lost_attempt_is_followed_by_one_more_which_remembers_why() -> None:
    lost, _ = step(RUNNING, Observed(now=5, attempt=1, job="failed", cause="killed"), limits=LIMIT, free=1)
    again, actions = step(lost, Observed(now=6, attempt=1, job="failed"), limits=LIMIT, free=1)
    over, _ = step(again, Observed(now=7, attempt=2, job="failed", cause="killed again"), limits=LIMIT, free=1)

    assert actions == (Submit(2),)
    assert again.cause == "killed"
    assert step(over, Observed(now=8, attempt=2, job="failed"), limits=LIMIT, free=1)[1] == (Report("killed again"),)


def test_a_stopped_job_is_not_tried_again() -> None:
    stopped, _ = step(RUNNING, Observed(now=5, attempt=1, job="stopped"), limits=LIMIT, free=1)

    assert isinstance(step(stopped, Observed(now=6, attempt=1, job="stopped"), limits=LIMIT, free=1)[1][0], Report)


def test_a_retry_waits_for_a_slot_too() -> None:
    failed = State(phase="failed", attempt=1, tries=1, cause="why")

    assert step(failed, Observed(now=1, attempt=1, job="failed"), limits=LIMIT, free=0) == (failed, (Wait(),))
