"""A piece is scored whole: answers, dead letters and the count that says so. Without Ray."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymlops import registry
from raymlops.data import read_answers, read_scores
from raymlops.engine import predictor, write_choice
from raymlops.errors import Conflict, DataError, SpecError
from raymlops.score.ledger import PieceCount, begin, done
from raymlops.score.piece import Plan, Scorer
from raymlops.score.plan import make_plan, remember
from raymlops.score.run import _commit, _finished
from raymlops.spec import Spec
from raymlops.values import Version


def _scored(spec: Spec) -> tuple[Plan, list[PieceCount]]:
    plan, pieces = make_plan(spec)
    scorer = Scorer(plan)
    return plan, [scorer.score(index, piece) for index, piece in enumerate(pieces)]


def _committed(spec: Spec) -> tuple[Path, list[PieceCount]]:
    plan, pieces = make_plan(spec)
    folder = remember(plan, pieces)
    scorer = Scorer(plan)
    with begin(folder) as attempt:
        counts = [scorer.score(index, piece) for index, piece in enumerate(pieces)]
        for count in counts:
            attempt.add(count)
        _commit(plan, attempt, counts, pieces)
    return folder, counts


def test_answers_are_those_of_a_plain_loop_in_the_order_of_the_input(
    spec: Spec, version: Version, rows: pa.Table
) -> None:
    folder, _ = _committed(spec)
    scores = read_scores(folder)
    made = read_answers(scores)
    assert made.column("id").to_pylist() == rows.column("id").to_pylist()
    assert made.column("note").to_pylist() == rows.column("note").to_pylist()
    x = np.column_stack([rows.column("x").to_numpy(), np.asarray(rows.column("colour")) == "red"]).astype(np.float32)
    np.testing.assert_array_equal(made.column("probability").to_numpy(), predictor(version).predict(x))
    assert set(made.column("model_version").to_pylist()) == {version.number}
    assert set(made.column("run_id").to_pylist()) == {scores.run}


def test_rows_that_break_the_contract_become_dead_letters_and_the_sum_holds(
    spec: Spec, version: Version, break_rows: Callable[[int], None]
) -> None:
    break_rows(3)
    folder, counts = _committed(spec)
    assert [(c.rows_in, c.scored, c.dead, c.filtered) for c in counts] == [(100, 97, 3, 0)] + [(100, 100, 0, 0)] * 3
    letters = pq.read_table(folder / "dead").to_pylist()
    assert [(letter["row"], letter["column"], letter["value"], letter["key"]) for letter in letters] == [
        (i, "colour", "'mauve'", f'{{"id":{i}}}') for i in range(3)
    ]
    assert letters[0]["rule"] == "must be one of blue, red"
    scores = read_scores(folder)
    assert (scores.rows_in, scores.scored, scores.dead) == (400, 397, 3)


def test_nothing_is_seen_before_the_commit(spec: Spec, version: Version, home: Path) -> None:
    _scored(spec)
    assert [path.name for path in (home / "scores" / "m").iterdir() if not path.name.startswith(".")] == []


def test_a_piece_that_is_done_twice_is_there_once(spec: Spec, version: Version, rows: pa.Table) -> None:
    _, counts = _scored(spec)
    assert [count.parts for count in _scored(spec)[1]] == [count.parts for count in counts]
    folder, _ = _committed(spec)
    assert read_answers(read_scores(folder)).num_rows == rows.num_rows


def test_a_piece_whose_part_was_lost_is_not_committed(spec: Spec, version: Version, home: Path) -> None:
    plan, counts = _scored(spec)
    (home / "scores" / "m" / f".{plan.run}" / f"{counts[1].parts[0].name}.part").unlink()
    pieces = make_plan(spec)[1]
    with begin(remember(plan, pieces)) as attempt, pytest.raises(Exception, match="nothing is shown"):
        _commit(plan, attempt, counts, pieces)
    assert not (home / "scores" / "m" / plan.run).exists()


def test_the_ledger_gives_back_what_was_done_and_no_line_that_was_cut_short(
    spec: Spec, version: Version, tmp_path: Path
) -> None:
    _, counts = _scored(spec)
    with begin(tmp_path) as attempt:
        for count in counts[:2]:
            attempt.add(count)
    path = tmp_path / "pieces-00001.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    with begin(tmp_path) as attempt:
        attempt.add(counts[3])
    assert done(tmp_path) == {0: counts[0], 3: counts[3]}


def test_a_later_attempt_fences_the_earlier_one_off(tmp_path: Path) -> None:
    with begin(tmp_path) as first:
        first.check()
        with begin(tmp_path) as second:
            second.check()
            with pytest.raises(Conflict, match=r"attempt 1 of run .* was taken over by attempt 2"):
                first.check()


def test_the_second_of_two_commits_says_that_it_came_too_late(spec: Spec, version: Version, rows: pa.Table) -> None:
    plan, counts = _scored(spec)
    pieces = make_plan(spec)[1]
    folder = remember(plan, pieces)
    with begin(folder) as first:
        _commit(plan, first, counts, pieces)
    before = (folder / "manifest.json").read_bytes()
    with begin(folder) as second, pytest.raises(Conflict, match="was committed by another attempt"):
        _commit(plan, second, counts, pieces)
    assert (folder / "manifest.json").read_bytes() == before
    assert read_answers(read_scores(folder)).num_rows == rows.num_rows


def test_a_commit_that_ended_before_it_was_recorded_is_recorded_by_the_next(
    spec: Spec, version: Version, rows: pa.Table
) -> None:
    folder, _ = _committed(spec)
    (folder / "manifest.json").unlink()
    folder, _ = _committed(spec)
    assert read_scores(folder).scored == rows.num_rows


def test_a_run_whose_rows_were_removed_is_done_again(
    spec: Spec, version: Version, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = _committed(spec)
    assert _finished(folder)
    shutil.rmtree(home / "scores" / "m" / folder.name)
    assert not _finished(folder)
    assert "its rows are gone; it is done again" in capsys.readouterr().err
    folder, _ = _committed(spec)
    assert read_answers(read_scores(folder)).num_rows == 400


@pytest.mark.parametrize("harm", ["truncated", "another schema", "empty"])
def test_an_unreadable_file_stops_the_run_or_is_left_out_as_the_spec_says(
    spec: Spec, version: Version, tmp_path: Path, rows: pa.Table, harm: str
) -> None:
    file = tmp_path / "rows" / "2.parquet"
    if harm == "another schema":
        changed = rows.slice(200, 100).drop_columns(["x"]).append_column("x", pa.array([f"t{i}" for i in range(100)]))
        pq.write_table(changed, file)
    else:
        file.write_bytes(file.read_bytes()[:-50] if harm == "truncated" else b"")
    with pytest.raises(DataError, match=r"2\.parquet"):
        make_plan(spec)
    lenient = spec.model_copy(update={"score": spec.score.model_copy(update={"unreadable": "quarantine"})})
    folder, _ = _committed(lenient)
    scores = read_scores(folder)
    assert scores.quarantined == (str(file),)
    assert (scores.scored, scores.rows_in) == (300, 400 if harm == "another schema" else 300)
    assert read_answers(scores).num_rows == 300
    letters: list[Any] = pq.read_table(folder / "dead").to_pylist()
    assert [(letter["source"], letter["stage"]) for letter in letters] == [(str(file), "read")]


def test_changed_input_model_or_spec_make_another_run_and_it_is_said(
    spec: Spec, version: Version, break_rows: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    first, pieces = make_plan(spec)
    remember(first, pieces)
    assert make_plan(spec)[0].run == first.run
    kept = spec.model_copy(update={"score": spec.score.model_copy(update={"keep": ()})})
    other, pieces = make_plan(kept)
    assert other.run != first.run
    remember(other, pieces)
    assert f"a new run, for keep changed since run {first.run}" in capsys.readouterr().err
    break_rows(1)
    third, pieces = make_plan(kept)
    assert third.run not in (first.run, other.run)
    remember(third, pieces)
    assert f"a new run, for the input changed since run {other.run}" in capsys.readouterr().err


def test_a_source_that_lacks_a_column_is_refused_before_a_row_is_read(
    spec: Spec, version: Version, tmp_path: Path, rows: pa.Table
) -> None:
    for path in (tmp_path / "rows").iterdir():
        pq.write_table(rows.drop_columns(["colour"]), path)
    with pytest.raises(DataError, match="column 'colour': is missing"):
        make_plan(spec)


def test_without_a_production_window_the_rows_to_score_must_be_named(spec: Spec, version: Version) -> None:
    windows = spec.data.model_copy(update={"windows": {"train": 0.8, "valid": 0.2}})
    unsaid = spec.model_copy(update={"data": windows, "score": spec.score.model_copy(update={"source": None})})
    with pytest.raises(SpecError, match=r"score\.on: name one of data\.windows \(train, valid\)"):
        make_plan(unsaid)


def test_another_choice_of_engine_is_another_run_and_the_run_keeps_its_own(spec: Spec, version: Version) -> None:
    plan, _ = make_plan(spec)
    write_choice(version, "onnxruntime", "a test")
    assert plan.engine == ("native", {})
    assert Scorer(plan)._predictor.__class__ is predictor(version, engine=("native", {})).__class__
    later, _ = make_plan(spec)
    assert later.engine[0] == "onnxruntime"
    assert later.run != plan.run


def test_a_worker_loads_no_model_that_was_changed_or_is_not_signed_where_it_must_be(
    spec: Spec, version: Version, home: Path
) -> None:
    plan, pieces = make_plan(spec)
    (home / "access.yaml").write_text(f'people: {{tina: {{key: "{_public(home)}", roles: [trainer]}}}}\n')
    with pytest.raises(Conflict, match="is not signed"):
        Scorer(plan).score(0, pieces[0])
    (home / "access.yaml").unlink()
    Scorer(plan).score(0, pieces[0])
    model = plan.version.path / "model.ubj"
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    with pytest.raises(Conflict, match="registered was"):
        Scorer(plan).score(0, pieces[0])


def _public(home: Path) -> str:
    return registry.new_key(home / "tina")
