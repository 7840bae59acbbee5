"""The totals of a run and its error budget: what adds up, and what stops a run."""

import pytest

from raymlops.errors import DataError
from raymlops.score.account import Account
from raymlops.score.ledger import PieceCount
from raymlops.spec import ScoreSpec


def _account(*counts: PieceCount) -> Account:
    account = Account()
    for count in counts:
        account.add(count)
    return account


def _piece(scored: int, dead: int, *, cause: str = "") -> PieceCount:
    rules = {"colour: must be one of blue, red": dead} if dead and not cause else {}
    return PieceCount(index=0, rows_in=scored + dead, scored=scored, dead=dead, filtered=0, rules=rules, cause=cause)


def test_too_many_dead_rows_stop_the_run_and_name_the_rule_and_the_place() -> None:
    account = _account(_piece(340, 60), _piece(0, 0))
    said = r"60 of 400 rows .* over score.max_dead_share=0\.01: colour: must be one of blue, red \(60 rows\)\. .*HERE"
    with pytest.raises(DataError, match=said):
        account.check(ScoreSpec(), where="HERE", ended=True)
    account.check(ScoreSpec(max_dead_share=0.15), where="HERE", ended=True)


def test_while_rows_are_to_come_a_share_of_few_rows_says_nothing() -> None:
    _account(_piece(0, 9_999)).check(ScoreSpec(), where="", ended=False)
    with pytest.raises(DataError, match="10,000 of 10,000 rows"):
        _account(_piece(0, 10_000)).check(ScoreSpec(), where="", ended=False)


def test_a_number_of_dead_rows_stops_the_run_as_soon_as_it_is_passed() -> None:
    budget = ScoreSpec(max_dead_share=1, max_dead_rows=3)
    _account(_piece(1, 3)).check(budget, where="", ended=False)
    with pytest.raises(DataError, match=r"4 of 5 rows break the contract, over score\.max_dead_rows=3"):
        _account(_piece(1, 3), _piece(0, 1)).check(budget, where="", ended=False)


def test_pieces_that_cannot_be_read_are_no_bad_rows_but_a_run_of_nothing_else_fails() -> None:
    account = _account(_piece(0, 500, cause="a.parquet: is not readable"))
    assert (account.dead, account.judged) == (500, 0)
    with pytest.raises(DataError, match=r"none of 1 pieces of the input could be read.*\n.*a\.parquet"):
        account.check(ScoreSpec(), where="", ended=True)
    account.add(_piece(10, 0))
    account.check(ScoreSpec(), where="", ended=True)
    _account().check(ScoreSpec(), where="", ended=True)
