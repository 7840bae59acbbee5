"""The fastest candidate within the budget is chosen, and every other one carries its reason."""

import pytest

from raymlops.optimize import Candidate, Latency, Reading, choose
from raymlops.optimize.judge import broken, gains, reason, runners_up
from raymlops.spec import Budget

BUDGET = Budget(error=0.01, p99_ms=10)


def candidate(engine: str, *, p50: float, p50_many: float = 1.0, p99: float = 1.0, fall: float = 0.0) -> Candidate:
    latency = {1: Latency(p50_ms=p50, p99_ms=p99), 256: Latency(p50_ms=p50_many, p99_ms=p99)}
    reading = Reading(value=0.9 - fall, fall=fall, difference=fall, latency=latency, size_bytes=10)
    return Candidate(version="churn@1", engine=engine, options={}, reading=reading)


NATIVE = candidate("native", p50=0.5, p50_many=0.6)
QUICK = candidate("onnxruntime", p50=0.1, p50_many=0.9)
WRONG = candidate("wrong", p50=0.01, fall=0.02)
UNSTEADY = candidate("unsteady", p50=0.01, p99=11)
UNBUILT = Candidate(version="churn@1", engine="tensorrt", options={}, problem="no GPU")
EVERY = (NATIVE, QUICK, WRONG, UNSTEADY, UNBUILT)


def test_the_fastest_within_the_budget_is_chosen_at_the_rows_that_requests_have() -> None:
    assert choose(EVERY, BUDGET, rows=1) is QUICK
    assert choose(EVERY, BUDGET, rows=256) is NATIVE


def test_none_is_chosen_when_none_keeps_the_budget() -> None:
    assert choose((WRONG, UNSTEADY, UNBUILT), BUDGET, rows=1) is None
    assert choose((), BUDGET, rows=1) is None


def test_who_answers_where_the_best_cannot_keeps_the_budget_and_comes_by_speed() -> None:
    slow = candidate("slow", p50=0.9)
    assert runners_up((slow, *EVERY), QUICK, BUDGET, rows=1) == [NATIVE, slow]
    assert runners_up(EVERY, NATIVE, BUDGET, rows=1) == [QUICK]


def test_a_fall_as_large_as_the_budget_keeps_it() -> None:
    assert broken(candidate("edge", p50=1, fall=0.01, p99=10), BUDGET) == ""


def test_what_breaks_the_budget_is_named_with_its_number() -> None:
    assert "falls by 0.02, over budget.error=0.01" in broken(WRONG, BUDGET)
    assert "p99 of one row is 11 ms, over budget.p99_ms=10" in broken(UNSTEADY, BUDGET)
    assert broken(UNBUILT, BUDGET) == "no GPU"


@pytest.mark.parametrize("fall", [float("nan"), float("inf")])
def test_a_fall_that_is_not_a_number_breaks_the_budget(fall: float) -> None:
    assert broken(candidate("odd", p50=1, fall=fall), BUDGET)


def test_the_reason_compares_with_native() -> None:
    said = reason(QUICK, NATIVE, BUDGET, rows=1)
    assert "median 0.1 ms against 0.5 ms of native (5 times)" in said
    assert "against" not in reason(NATIVE, NATIVE, BUDGET, rows=1)


def test_what_a_candidate_gains_on_another_is_said_with_its_numbers() -> None:
    assert gains(QUICK, NATIVE, rows=1) == "0.1 against 0.5 ms median at 1 row a request"
    assert gains(QUICK, NATIVE, rows=256) == ""
    assert gains(NATIVE, NATIVE, rows=1) == ""


def test_a_row_of_the_table_is_plain_json() -> None:
    assert QUICK.to_json()["latency"] == {
        "1": {"p50_ms": 0.1, "p99_ms": 1.0},
        "256": {"p50_ms": 0.9, "p99_ms": 1.0},
    }
    assert UNBUILT.to_json() == {"version": "churn@1", "engine": "tensorrt", "options": {}, "problem": "no GPU"}
