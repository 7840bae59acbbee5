"""Rows that a run left dead are scored once they are mended: those rows, each once, and no other. Without Ray."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymlops.data import key_texts, latest_scores, read_answers, read_scores, run_folder
from raymlops.errors import DataError, SpecError
from raymlops.score.ledger import PieceCount, begin
from raymlops.score.piece import DEAD_LETTER, Plan, Scorer
from raymlops.score.plan import make_plan, remember
from raymlops.score.redrive import needed_redrive
from raymlops.score.run import _commit, run
from raymlops.score.sought import Sought, left_out, sought
from raymlops.score.stream import needed_runs
from raymlops.spec import Spec
from raymlops.values import Piece, Version


def _finish(plan: Plan, pieces: Any) -> Path:
    with begin(remember(plan, pieces)) as attempt:
        counts = [Scorer(plan).score(index, piece) for index, piece in enumerate(pieces)]
        _commit(plan, attempt, counts, pieces)
    return attempt.folder


def _scored(spec: Spec) -> Path:
    return _finish(*make_plan(spec))


def _needed(spec: Spec) -> tuple[Plan, list[Piece]]:
    ((plan, pieces),) = needed_redrive(spec)
    return plan, [*pieces]


def _redriven(spec: Spec) -> Path:
    return _finish(*_needed(spec))


def _ids(folder: Path) -> list[int]:
    made: list[int] = read_answers(read_scores(folder)).column("id").to_pylist() if read_scores(folder).scored else []
    return made


def _sums(folder: Path) -> tuple[int, int, int, int]:
    made = read_scores(folder)
    return made.rows_in, made.scored, made.dead, made.missing


def _dead(folder: Path) -> list[tuple[int, str]]:
    return [(letter["row"], letter["key"]) for letter in pq.read_table(folder / "dead").to_pylist()]


def _lenient(spec: Spec) -> Spec:
    score = spec.score.model_copy(update={"unreadable": "quarantine", "max_dead_share": 1.0})
    return spec.model_copy(update={"score": score})


def test_mended_rows_are_scored_and_what_is_still_broken_can_be_redriven_again(
    spec: Spec, version: Version, break_rows: Callable[[int], None]
) -> None:
    break_rows(5)
    first = _scored(spec)
    before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    break_rows(2)
    plan, pieces = _needed(spec)
    assert [Path(piece.source).name for piece in pieces] == ["0.parquet"]
    assert plan.spec.score.max_dead_share == 1, "what was dead before has no budget"
    second = _finish(plan, pieces)
    assert (_ids(second), _sums(second), read_scores(second).redrives) == ([2, 3, 4], (5, 3, 2, 0), first.name)
    assert _dead(second) == [(0, '{"id":0}'), (1, '{"id":1}')]
    assert _needed(spec)[0].run == second.name, "nothing was mended since"
    break_rows(0)
    third = _redriven(spec)
    assert (_ids(third), _sums(third), read_scores(third).redrives) == ([0, 1], (2, 2, 0, 0), second.name)
    assert _needed(spec)[0].run == third.name
    break_rows(1)
    assert [*needed_redrive(spec)] == [], "every dead row was scored"
    assert {path: path.read_bytes() for path in first.rglob("*") if path.is_file()} == before


def test_the_latest_scores_are_those_of_the_whole_run(
    spec: Spec, version: Version, break_rows: Callable[[int], None]
) -> None:
    break_rows(3)
    first = _scored(spec)
    break_rows(0)
    assert _redriven(spec) != first
    assert latest_scores(version).run == first.name


def test_the_command_says_that_it_is_finished_or_that_nothing_is_to_be_redriven(
    spec: Spec, version: Version, break_rows: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    _scored(spec)
    assert run(spec, redrive=True)["run"] is None
    assert "score: nothing to redrive" in capsys.readouterr().err
    break_rows(3)
    _scored(spec)
    break_rows(0)
    made = _redriven(spec)
    assert run(spec, redrive=True)["run"] == made.name
    assert f"run {made.name} is finished" in capsys.readouterr().err


def test_a_later_run_of_the_same_source_leaves_nothing_of_an_earlier_one(
    spec: Spec, version: Version, break_rows: Callable[[int], None]
) -> None:
    break_rows(3)
    _scored(spec)
    break_rows(0)
    _scored(spec)
    assert [*needed_redrive(spec)] == []


def test_without_a_key_dead_rows_cannot_be_found(spec: Spec, version: Version) -> None:
    keyless = spec.model_copy(update={"data": spec.data.model_copy(update={"key": ()})})
    with pytest.raises(SpecError, match=r"data\.key: not given"):
        [*needed_redrive(keyless)]


def test_rows_are_found_in_a_file_that_keeps_its_key_otherwise_and_in_another_order(
    spec: Spec, version: Version, break_rows: Callable[[int], None], tmp_path: Path, rows: pa.Table
) -> None:
    break_rows(4)
    _scored(spec)
    part = rows.slice(0, 100).filter(pa.array([i != 2 for i in range(100)])).sort_by([("id", "descending")])
    for index, table in enumerate([part, *(rows.slice(at, 100) for at in (100, 200, 300))]):
        wider = table.set_column(0, "id", table.column("id").cast(pa.float64()))
        pq.write_table(wider, tmp_path / "rows" / f"{index}.parquet", row_group_size=10)
    made = _redriven(spec)
    assert (_ids(made), _sums(made)) == ([3, 1, 0], (3, 3, 0, 1))


def test_rows_of_a_file_that_has_another_name_now_are_found(
    spec: Spec, version: Version, break_rows: Callable[[int], None], tmp_path: Path
) -> None:
    break_rows(3)
    _scored(spec)
    break_rows(0)
    (tmp_path / "rows" / "0.parquet").rename(tmp_path / "rows" / "mended.parquet")
    assert _ids(_redriven(spec)) == [0, 1, 2]


def test_every_row_of_a_file_that_was_left_out_is_scored_when_it_is_mended(
    spec: Spec, version: Version, tmp_path: Path, break_rows: Callable[[int], None]
) -> None:
    lenient, files = _lenient(spec), [tmp_path / "rows" / f"{index}.parquet" for index in (1, 2)]
    held = [file.read_bytes() for file in files]
    break_rows(3)
    for file in files:
        file.write_bytes(b"")
    _scored(lenient)
    files[0].write_bytes(held[0])
    second = _redriven(lenient)
    assert (_ids(second), _sums(second)) == ([*range(100, 200)], (103, 100, 3, 0))
    assert read_scores(second).quarantined == (str(files[1]),)
    files[1].write_bytes(held[1])
    break_rows(0)
    third = _redriven(lenient)
    assert (_ids(third), _sums(third)) == ([0, 1, 2, *range(200, 300)], (103, 103, 0, 0))


def test_of_a_file_that_was_left_out_in_part_only_that_part_is_scored_also_by_a_redrive_of_a_redrive() -> None:
    pieces = [Piece(source=name, part=part, rows=50, fingerprint="f") for name in "ab" for part in (0, 1)]
    causes = {pieces[1]: "torn", pieces[2]: "torn", pieces[3]: "torn"}

    def lost(pieces: Sequence[Piece], within: Sought | None) -> Sought:
        counts = [
            PieceCount(index=i, rows_in=50, scored=50, dead=0, filtered=0, rules={}, cause=causes.get(piece, ""))
            for i, piece in enumerate(pieces)
        ]
        _write_record(left_out(counts, pieces, within=within))
        return sought("m", "r")

    first = lost(pieces, None)
    assert first.pieces(pieces) == pieces[1:]
    second = lost(first.pieces(pieces), first)
    assert second.pieces(pieces) == pieces[1:]
    cut_otherwise = [dataclasses.replace(piece, rows=60) for piece in pieces]
    assert second.pieces(cut_otherwise) == cut_otherwise[2:]


def _write_record(quarantined: Any) -> None:
    folder = run_folder("m", "r")
    (folder / "dead").mkdir(parents=True, exist_ok=True)
    pq.write_table(DEAD_LETTER.empty_table(), folder / "dead" / "part.parquet")
    (folder / "manifest.json").write_text(json.dumps({"quarantined": quarantined}))


def test_a_redrive_that_finds_no_row_publishes_nothing(
    spec: Spec, version: Version, break_rows: Callable[[int], None], tmp_path: Path, rows: pa.Table
) -> None:
    break_rows(2)
    first = _scored(spec)
    pq.write_table(rows.slice(2, 98), tmp_path / "rows" / "0.parquet")
    with pytest.raises(DataError, match=f"none of the rows that run {first.name} left dead is in the source now"):
        _redriven(spec)


def test_a_key_that_names_more_rows_than_were_dead_is_refused(
    spec: Spec, version: Version, break_rows: Callable[[int], None], tmp_path: Path, rows: pa.Table
) -> None:
    break_rows(1)
    _scored(spec)
    pq.write_table(pa.concat_tables([rows.slice(0, 100), rows.slice(0, 1)]), tmp_path / "rows" / "0.parquet")
    with pytest.raises(DataError, match=r"data\.key: 2 rows have the keys of 1 dead rows"):
        _redriven(spec)


def test_a_file_with_dead_rows_that_cannot_be_read_any_more_stops_the_redrive(
    spec: Spec, version: Version, break_rows: Callable[[int], None], tmp_path: Path
) -> None:
    break_rows(1)
    _scored(_lenient(spec))
    (tmp_path / "rows" / "0.parquet").write_bytes(b"")
    with pytest.raises(DataError, match=r"0\.parquet"):
        _redriven(_lenient(spec))


def test_rows_that_a_mended_contract_accepts_are_scored_also_those_of_a_stream(
    spec: Spec, version: Version, rows: pa.Table, tmp_path: Path, register: Callable[[pa.Table], Version]
) -> None:
    coloured = rows.slice(0, 6).set_column(2, "colour", pa.array(["red", "mauve"] * 3))
    lines = [json.dumps(row) for row in coloured.to_pylist()]
    log = tmp_path / "app.log"
    log.write_text("\n".join([*lines[:4], "{torn", ""]))
    columns = {"id": "int64", "x": "double", "colour": "string", "note": "string"}
    score = spec.score.model_copy(update={"source": {"log": {"path": str(log), "columns": columns}}})
    stream = _lenient(spec.model_copy(update={"score": score}))
    ((plan, pieces),) = needed_runs(stream)
    first = _finish(plan, pieces)
    assert _sums(first) == (5, 2, 3, 0)
    with log.open("a") as file:
        file.write(lines[4] + "\n")
    colours = ["mauve" if colour == "blue" else colour for colour in rows.column("colour").to_pylist()]
    mended = register(rows.set_column(2, "colour", pa.array(colours)))
    second = _redriven(stream)
    assert (_ids(second), _sums(second), read_scores(second).number) == ([1, 3], (2, 2, 0, 1), mended.number)
    assert read_scores(second).input == read_scores(first).input
    ((plan, pieces),) = needed_runs(stream)
    assert _ids(_finish(plan, pieces)) == [4]


def test_equal_keys_have_equal_text_however_they_are_kept() -> None:
    noon = datetime(2026, 11, 25, 12, tzinfo=UTC)
    east = noon.astimezone(timezone(timedelta(hours=2)))
    for values, text in (
        ([pa.array([7], pa.int8()), pa.array([7], pa.uint64()), pa.array([7.0]), pa.array([Decimal("7.00")])], "7"),
        ([pa.array(["7"]), pa.array(["7"]).dictionary_encode(), pa.array(["7"], pa.large_string())], '"7"'),
        ([pa.array([1.5], pa.float32()), pa.array([1.5])], "1.5"),
        ([pa.array([noon], pa.timestamp(unit, "UTC")) for unit in ("s", "us", "ns")]
         + [pa.array([east], pa.timestamp("ms", "+02:00"))], '"2026-11-25T12:00:00+00:00"'),
        ([pa.array([None], pa.string()), pa.array([float("nan")])], "null"),
    ):  # fmt: skip
        assert {key_texts(pa.table({"k": value}), ["k"])[0] for value in values} == {f'{{"k":{text}}}'}
    assert json.loads(key_texts(pa.table({"k": ['ü"\n']}), ["k"])[0]) == {"k": 'ü"\n'}
