"""The ledger under processes that race, and the fence that keeps a superseded attempt from committing."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from raymlops.errors import Conflict, DataError
from raymlops.spec import Cron, Period
from raymlops.submit.decide import Asked, Attach, Failed, Finished, Limits, Observed, Skip, Started, Submit, Wait
from raymlops.submit.fence import Fence, attempt, cause_of
from raymlops.submit.ledger import Ledger, Step
from raymlops.submit.schedule import Ask, Busy, Lease, Rest, Rule, Run, Settle
from raymlops.submit.timetable import Schedule

LIMITS = Limits(attempts=2, timeout_s=100)
RULE = Rule(every=Cron("hourly"), lease_s=60)
SCHEDULE = Schedule(identity="5" * 64, name="toy", spec="spec.yaml", every="hourly")
TRAIN = Step(identity="a" * 64, stage="train", name="toy")
RACER = """
import sys, time
from pathlib import Path
from raymlops.submit.decide import Asked, Limits
from raymlops.submit.ledger import Ledger, Step
ledger, ready = Ledger(Path(sys.argv[1])), Path(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for n in range(20):
    step = Step(identity=f"{n:064}", stage="train", name="toy")
    _, actions = ledger.advance(step, Asked(now=0), limits=Limits(attempts=1, timeout_s=1), running=1000)
    print(type(actions[0]).__name__, flush=True)
"""


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.db")


def claimed(ledger: Ledger, subject: Step = TRAIN, *, running: int = 2) -> Step:
    return ledger.advance(subject, Asked(now=1), limits=LIMITS, running=running)[0]


def superseded(ledger: Ledger) -> Fence:
    """Return the fence of attempt 1 after attempt 2 was begun."""
    claimed(ledger)
    fence = Fence(TRAIN.identity, 1, "train", ledger)
    fence.start()
    for _ in range(2):
        ledger.advance(TRAIN, Observed(now=2, attempt=1, job="failed"), limits=LIMITS, running=2)
    return fence


def test_of_two_processes_that_ask_at_once_one_claims_each_step(tmp_path: Path) -> None:
    words = [sys.executable, "-c", RACER, str(tmp_path / "ledger.db"), str(tmp_path)]
    racers = [
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
        for _ in range(2)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    with ThreadPoolExecutor(2) as pool:
        outs = list(pool.map(lambda racer: racer.communicate("go\n", timeout=60)[0].split(), racers))

    assert [sorted(pair) for pair in zip(*outs, strict=True)] == [["Attach", "Submit"]] * 20


def test_an_attempt_that_was_superseded_may_not_commit_finish_or_fail(ledger: Ledger) -> None:
    fence = superseded(ledger)

    with pytest.raises(Conflict, match=r"attempt 1 of train was superseded by attempt 2; nothing was committed"):
        fence.may_commit()
    with pytest.raises(Conflict, match="superseded"):
        fence.finish({"outputs": []})
    fence.fail("late")
    found = ledger.find(TRAIN.identity)
    assert found is not None
    assert (found.state.phase, found.state.attempt, found.state.final) == ("claimed", 2, False)


def test_the_present_attempt_commits_and_its_result_is_kept(ledger: Ledger) -> None:
    superseded(ledger)
    fence = Fence(TRAIN.identity, 2, "train", ledger)

    fence.start()
    fence.may_commit()
    fence.finish({"outputs": ["/a", "http://b"], "rows": 3})

    found = ledger.find(TRAIN.identity)
    assert found is not None
    assert (found.state.phase, found.outputs, found.result["rows"]) == ("done", ("/a", "http://b"), 3)
    assert found.name == "toy"
    assert found.finished is not None


def test_an_attempt_that_was_given_up_may_not_commit_although_none_came_after_it(ledger: Ledger) -> None:
    claimed(ledger)
    fence = Fence(TRAIN.identity, 1, "train", ledger)
    ledger.advance(TRAIN, Observed(now=999, attempt=1, job="running"), limits=LIMITS, running=2)

    with pytest.raises(Conflict, match=r"given up: ran for 998 s, longer than submit\.timeout_s=100"):
        fence.may_commit()


def test_no_more_steps_run_than_there_are_slots(ledger: Ledger) -> None:
    other = Step(identity="b" * 64, stage="score", name="toy")
    claimed(ledger)

    waits = ledger.advance(other, Asked(now=1), limits=LIMITS, running=1)
    ledger.report(TRAIN, Finished(now=2, attempt=1))
    goes = ledger.advance(other, Asked(now=3), limits=LIMITS, running=1)

    assert waits[1] == (Wait(),)
    assert goes[1] == (Submit(1),)
    assert ledger.active() == [goes[0]]


def test_a_step_is_found_under_the_name_its_data_gave_it(ledger: Ledger) -> None:
    claimed(ledger)
    ledger.report(TRAIN, Finished(now=2, attempt=1), result={"outputs": []})
    ledger.seal(TRAIN.identity, "c" * 64)
    ledger.seal(TRAIN.identity, "d" * 64)
    named_by_data = Step(identity="c" * 64, stage="train", name="toy")

    found, actions = ledger.advance(named_by_data, Asked(now=3, outputs_exist=True), limits=LIMITS, running=1)

    assert (found.identity, actions) == (TRAIN.identity, (Skip(),))
    assert ledger.find("d" * 64) is None


def test_a_ledger_on_another_machine_learns_of_an_attempt_from_its_own_process(ledger: Ledger) -> None:
    Fence(TRAIN.identity, 2, "train", ledger).start()

    with pytest.raises(Conflict, match="superseded by attempt 2"):
        Fence(TRAIN.identity, 1, "train", ledger).start()


def test_a_failed_process_leaves_its_cause_and_wrong_input_is_final(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYMLOPS_HOME", str(tmp_path))
    for name, value in {"STEP": TRAIN.identity, "ATTEMPT": "1", "STAGE": "train"}.items():
        monkeypatch.setenv(f"RAYMLOPS_{name}", value)

    with pytest.raises(DataError), attempt():
        raise DataError("rows.parquet: is empty")

    found = Ledger().find(TRAIN.identity)
    assert found is not None
    assert (found.state.phase, found.state.cause, found.state.final) == (
        "failed",
        "DataError: rows.parquet: is empty",
        True,
    )


def test_outside_a_job_an_attempt_guards_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYMLOPS_HOME", str(tmp_path))
    monkeypatch.delenv("RAYMLOPS_STEP", raising=False)

    with attempt() as fence:
        fence.may_commit()
        fence.finish({"outputs": []})

    assert list(tmp_path.iterdir()) == []


def test_the_cause_of_an_unexpected_error_tells_the_place() -> None:
    try:
        [][1]
    except IndexError as error:
        cause = cause_of(ValueError("a").with_traceback(error.__traceback__))

    assert cause.splitlines()[0] == "ValueError: a"
    assert cause_of(SystemExit(143)) == "ended by signal 15"


def test_events_of_a_process_survive_in_the_order_they_came(ledger: Ledger) -> None:
    claimed(ledger)

    assert ledger.report(TRAIN, Started(now=5, attempt=1), process="host:1")
    assert ledger.report(TRAIN, Failed(now=6, attempt=1, cause="x"))
    assert not ledger.report(TRAIN, Finished(now=7, attempt=1))
    assert isinstance(claimed(ledger).state.attempt, int)
    found = ledger.find(TRAIN.identity)
    assert found is not None
    assert (found.state.attempt, found.started, found.process) == (2, None, "")
    assert ledger.advance(TRAIN, Asked(now=8), limits=LIMITS, running=1)[1] == (Attach(2),)


def test_a_step_goes_on_only_while_its_lease_is_held(ledger: Ledger) -> None:
    ask = Ask(now=1, holder="a:1", since=datetime(1970, 1, 1))
    first = ledger.turn(SCHEDULE, ask, rule=RULE)
    mine, theirs = (Lease(schedule=SCHEDULE.identity, fence=fence, rule=RULE) for fence in (1, 2))
    ledger.advance(TRAIN, Asked(now=50), limits=LIMITS, running=2, lease=mine)
    renewed = ledger.turn(SCHEDULE, replace(ask, now=100, holder="b:2"), rule=RULE)
    taken = ledger.turn(SCHEDULE, replace(ask, now=111, holder="b:2"), rule=RULE)

    assert (first, renewed, taken) == (
        Rest(datetime(1970, 1, 1, 1), 1),
        Busy("a:1", 110),
        Rest(datetime(1970, 1, 1, 1), 2),
    )
    before = ledger.find(TRAIN.identity)
    with pytest.raises(Conflict, match=r"the lease of the schedule was taken over by b:2, which goes on"):
        ledger.advance(TRAIN, Failed(now=112, attempt=1, cause="x"), limits=LIMITS, running=2, lease=mine)
    assert ledger.find(TRAIN.identity) == before
    assert ledger.advance(TRAIN, Asked(now=112), limits=LIMITS, running=2, lease=theirs)[1] == (Attach(1),)


def test_a_schedule_is_kept_with_its_lease_and_the_period_that_is_begun(ledger: Ledger) -> None:
    ask = Ask(now=4 * 3600, holder="a:1", since=datetime(1970, 1, 1))
    due = Run(Period(datetime(1970, 1, 1), datetime(1970, 1, 1, 1)), 1)

    assert ledger.turn(SCHEDULE, ask, rule=RULE) == due
    (kept,) = Ledger(ledger.path).schedules()
    assert (kept.state.period, kept.state.holder, kept.due) == (due.period, "a:1", due.period.end)
    assert ledger.turn(SCHEDULE, Settle(now=5 * 3600, fence=1, period=due.period), rule=RULE) is None
    (kept,) = Ledger(ledger.path).schedules()
    assert (kept.state.period, kept.state.through, kept.due) == (None, due.period.end, datetime(1970, 1, 1, 2))
