"""A piece is scored whole: answers, dead letters and the count that says so. Without Ray."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymlops.engine import predictor, write_choice
from raymlops.errors import DataError, SpecError
from raymlops.score.piece import PieceCount, Plan, Scorer, read_count
from raymlops.score.run import _commit, _plan, _within_budget
from raymlops.spec import Spec
from raymlops.values import Version


def _scored(spec: Spec) -> tuple[Plan, list[PieceCount]]:
    plan, pieces = _plan(spec, None, None)
    scorer = Scorer(plan)
    return plan, [scorer.score(index, piece) for index, piece in enumerate(pieces)]


def test_answers_are_those_of_a_plain_loop_in_the_order_of_the_input(
    spec: Spec, version: Version, rows: pa.Table
) -> None:
    plan, counts = _scored(spec)
    made = pa.concat_tables([pq.read_table(plan.folder / count.name) for count in counts])
    assert made.column("id").to_pylist() == rows.column("id").to_pylist()
    assert made.column("note").to_pylist() == rows.column("note").to_pylist()
    x = np.column_stack([rows.column("x").to_numpy(), np.asarray(rows.column("colour")) == "red"]).astype(np.float32)
    np.testing.assert_array_equal(made.column("probability").to_numpy(), predictor(version).predict(x))
    assert set(made.column("model_version").to_pylist()) == {version.number}
    assert set(made.column("run_id").to_pylist()) == {plan.run}


def test_rows_that_break_the_contract_become_dead_letters_and_the_sum_holds(
    spec: Spec, version: Version, break_rows: Callable[[int], None]
) -> None:
    break_rows(3)
    plan, counts = _scored(spec)
    assert [(c.rows_in, c.scored, c.dead, c.filtered) for c in counts] == [(100, 97, 3, 0)] + [(100, 100, 0, 0)] * 3
    letters = pq.read_table(plan.folder / "dead" / "part-00000.parquet").to_pylist()
    assert [(letter["row"], letter["column"], letter["value"], letter["key"]) for letter in letters] == [
        (i, "colour", "'mauve'", f"{{'id': {i}}}") for i in range(3)
    ]
    assert letters[0]["rule"] == "must be one of blue, red"


def test_a_piece_that_is_done_is_not_done_again(spec: Spec, version: Version) -> None:
    plan, counts = _scored(spec)
    part = plan.folder / counts[0].name
    part.write_bytes(b"left as it is")
    assert Scorer(plan).score(0, _plan(spec, None, None)[1][0]) == counts[0]
    assert part.read_bytes() == b"left as it is"


def test_a_piece_without_its_count_is_done_anew(spec: Spec, version: Version) -> None:
    plan, counts = _scored(spec)
    (plan.folder / "counts" / "00000.json").unlink()
    (plan.folder / counts[0].name).write_bytes(b"half")
    assert Scorer(plan).score(0, _plan(spec, None, None)[1][0]) == counts[0]


def test_too_many_dead_rows_stop_the_run_and_name_the_rule(
    spec: Spec, version: Version, break_rows: Callable[[int], None]
) -> None:
    break_rows(60)
    plan, counts = _scored(spec)
    with pytest.raises(DataError, match=r"60 of 400 rows .*0\.01: colour: must be one of blue, red \(60 rows\)"):
        _within_budget(plan, counts, ended=True)
    assert not (plan.folder / "manifest.json").exists()


def test_changed_input_model_or_spec_make_another_run(
    spec: Spec, version: Version, break_rows: Callable[[int], None]
) -> None:
    first = _plan(spec, None, None)[0].run
    assert _plan(spec, None, None)[0].run == first
    kept = spec.model_copy(update={"score": spec.score.model_copy(update={"keep": ()})})
    assert _plan(kept, None, None)[0].run != first
    break_rows(1)
    assert _plan(spec, None, None)[0].run != first


def test_the_first_manifest_stays(spec: Spec, version: Version) -> None:
    plan, counts = _scored(spec)
    _commit(plan, counts)
    before = (plan.folder / "manifest.json").read_bytes()
    _commit(plan, [])
    assert (plan.folder / "manifest.json").read_bytes() == before


def test_a_source_that_lacks_a_column_is_refused_before_a_row_is_read(
    spec: Spec, version: Version, tmp_path: Path, rows: pa.Table
) -> None:
    for path in (tmp_path / "rows").iterdir():
        pq.write_table(rows.drop_columns(["colour"]), path)
    with pytest.raises(DataError, match="column 'colour': is missing"):
        _plan(spec, None, None)


def test_no_count_is_read_where_nothing_was_scored(tmp_path: Path) -> None:
    assert read_count(tmp_path, 0) is None


def test_without_a_production_window_the_rows_to_score_must_be_named(spec: Spec, version: Version) -> None:
    windows = spec.data.model_copy(update={"windows": {"train": 0.8, "valid": 0.2}})
    unsaid = spec.model_copy(update={"data": windows, "score": spec.score.model_copy(update={"source": None})})
    with pytest.raises(SpecError, match=r"score\.on: name one of data\.windows \(train, valid\)"):
        _plan(unsaid, None, None)


def test_another_choice_of_engine_is_another_run_and_the_run_keeps_its_own(spec: Spec, version: Version) -> None:
    plan, _ = _plan(spec, None, None)
    write_choice(version, "onnxruntime", "a test")
    assert plan.engine == ("native", {})
    assert Scorer(plan)._predictor.__class__ is predictor(version, engine=("native", {})).__class__
    later, _ = _plan(spec, None, None)
    assert later.engine[0] == "onnxruntime"
    assert later.run != plan.run
