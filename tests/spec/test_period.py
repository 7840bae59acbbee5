"""Schedules and periods in a spec: what is due when, what may be said of it, and what is refused."""

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymlops.errors import SpecError
from raymlops.spec import Cron, Period, Spec, parse

SPEC = """
name: m
data: {source: {parquet: rows}, label: y, time: at}
train: {trainers: {xgboost: {}}}
score: {%s}
"""
NOW = datetime(2026, 11, 25, 10, 17)
EXPRESSIONS = st.sampled_from(
    ["0 3 * * *", "*/7 * * * *", "0 0 31 * *", "30 2 * * 1-5", "0 0 29 2 *", "@weekly", "monthly"]
)


def spec(score: str) -> Spec:
    return parse(SPEC % score)


@given(EXPRESSIONS, st.datetimes(datetime(2000, 1, 1), datetime(2090, 1, 1)))
def test_due_moments_lie_around_every_moment_and_follow_each_other(expression: str, moment: datetime) -> None:
    cron = Cron(expression)
    before, latest, after = cron.before(moment), cron.latest(moment), cron.after(moment)

    assert before < moment < after
    assert latest in (before, moment)
    assert cron.after(latest) == after
    assert cron.before(after) == latest


@pytest.mark.parametrize(
    ("expression", "due"),
    [
        ("0 3 * * *", datetime(2026, 11, 26, 3)),
        ("hourly", datetime(2026, 11, 25, 11)),
        ("@daily", datetime(2026, 11, 26)),
        ("weekly", datetime(2026, 11, 29)),
        ("0 6 1 * *", datetime(2026, 12, 1, 6)),
        ("0 6 13 * 5", datetime(2026, 11, 27, 6)),
        ("*/10 9-10 * * mon-fri", datetime(2026, 11, 25, 10, 20)),
    ],
)
def test_a_schedule_is_due_as_cron_says(expression: str, due: datetime) -> None:
    assert Cron(expression).after(NOW) == due


@pytest.mark.parametrize(
    ("score", "message"),
    [
        ('every: "0 3 * *"', r"spec:5: score\.every: is not a cron expression \(4 fields\); give five fields, minute"),
        ('every: "0 25 * * *"', r"score\.every: .*\(Bad hour\).*'0 25 \* \* \*' given"),
        ('every: "0 0 * * * *"', r"score\.every: .*\(6 fields\)"),
        ('every: "0 0 30 2 *"', r"score\.every: .*\(Bad day-of-month\)"),
        ("every: sometimes", r"score\.every: .* one of hourly, daily, weekly, monthly, yearly"),
        ("every: 5", r"score\.every: .*string"),
        ("every: daily, catch_up: some", r"score\.catch_up: .*'all' or 'last'"),
        ('on: "${period}"', r"score\.on: \$\{period…\} needs `score\.every`"),
        (
            'every: daily, source: {parquet: "a/${period_day}"}',
            r"score\.source: '\$\{period_day\}' is unknown; known are",
        ),
        ("on: 2026-11-25/2026-11-24", r"score\.on: .*FROM is not before TO"),
        ("on: 2026-11-24/soon", r"score\.on: '2026-11-24/soon' is not FROM/TO"),
        ("on: tomorrow", r"score\.on: 'tomorrow' is not in data\.windows"),
    ],
)
def test_a_wrong_schedule_is_refused_with_its_place_and_what_is_allowed(score: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        spec(score)


def test_a_period_is_no_window_without_a_column_of_time() -> None:
    with pytest.raises(SpecError, match=r"score\.on: .* needs `data\.time`"):
        parse((SPEC % 'every: daily, on: "${period}"').replace(", time: at", ""))


def test_a_period_is_filled_in_wherever_the_score_section_speaks_of_it() -> None:
    source = 'source: {sql: {url: "sqlite:///x", query: "select * from t where at >= \'${period_start}\'"}}'
    made = spec(f'every: "0 3 * * *", {source}, on: "${{period}}", sink: {{parquet: "o/${{period_end:%Y/%m/%d}}"}}')
    period = made.last_period(now=NOW)
    score = made.in_period(period).score

    assert period == Period(datetime(2026, 11, 24, 3), datetime(2026, 11, 25, 3))
    assert score.source == {"sql": {"url": "sqlite:///x", "query": "select * from t where at >= '2026-11-24T03:00:00'"}}
    assert score.on == "2026-11-24T03:00:00/2026-11-25T03:00:00"
    assert score.sink == {"parquet": "o/2026/11/25"}


def test_a_spec_that_does_not_speak_of_a_period_is_the_same_in_all_of_them() -> None:
    made = spec("every: daily")

    assert made.last_period(now=NOW) is None
    assert made.in_period(Period(NOW, datetime(2027, 1, 1))) == made


@pytest.mark.parametrize("text", ["2026-11-24T01:00+01:00/2026-11-25T00:00Z", "2026-11-24/2026-11-25"])
def test_a_period_is_read_in_any_form_of_iso_8601_and_written_in_one(text: str) -> None:
    assert str(Period.parse(text)) == "2026-11-24T00:00:00/2026-11-25T00:00:00"
    assert Period.parse(str(Period.parse(text))) == Period.parse(text)
