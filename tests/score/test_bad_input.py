"""Whatever is wrong with the rows, the stage ends as is stated here, strict or lenient. Without Ray."""

import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from raymlops.data import read_answers, read_scores
from raymlops.spec import Spec
from raymlops.values import Version
from tests.score.faults.here import in_this_process, score

FILE = "2.parquet"  # the third of four files with 100 rows each
Harm = Callable[[Path, pa.Table], object]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is done to the rows, and what becomes of the stage.

    `strict`: the exit code where unreadable files stop a run, and a part of what is said. `lenient`: rows scored, rows
    dead and a part of the dead letters' rule or value where they are left out. `late`: done between plan and reading.
    """

    harm: Harm
    strict: tuple[int, str] = (0, "")
    lenient: tuple[int, int, str] = (400, 0, "")
    late: bool = False


def _bytes(change: Callable[[bytes], bytes]) -> Harm:
    return lambda folder, rows: _put(folder / FILE, change((folder / FILE).read_bytes()))


def _put(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _table(change: Callable[[pa.Table], pa.Table]) -> Harm:
    return lambda folder, rows: pq.write_table(change(rows.slice(200, 100)), folder / FILE)


def _values(column: str, values: list[object], rows: pa.Table) -> pa.Table:
    made = pa.array(values + rows.column(column).to_pylist()[len(values) :], rows.schema.field(column).type)
    return rows.set_column(rows.schema.get_field_index(column), column, made)


def _texts(rows: pa.Table) -> pa.Table:
    return rows.set_column(1, "x", pa.array(["1.0"] * 99 + ["tall"]))


def _flip_a_byte_of_a_page(folder: Path, rows: pa.Table) -> None:
    pq.write_table(
        rows.slice(200, 100), folder / FILE, write_page_checksum=True, compression="none", use_dictionary=False
    )
    data = bytearray((folder / FILE).read_bytes())
    place = data.index(np.float64(rows.column("x")[250].as_py()).tobytes())
    data[place] ^= 1
    _put(folder / FILE, bytes(data))


def _hide_files(folder: Path, rows: pa.Table) -> None:
    (folder / "_SUCCESS").touch()
    for name in (".3.parquet.crc", "_temporary.parquet", ".hidden.parquet", "README.txt"):
        _put(folder / name, b"no rows")


def _add_a_file(folder: Path, rows: pa.Table) -> None:
    pq.write_table(rows.slice(0, 50), folder / "9.parquet")


CANNOT, CHANGED = "cannot be read", "changed while it was being read"
CASES = {
    "a truncated file": Case(
        harm=_bytes(lambda data: data[:-50]), strict=(2, "2.parquet: is not a readable"), lenient=(300, 0, "readable")
    ),
    "a file cut in its pages": Case(
        harm=_bytes(lambda data: data[:30] + data[430:]), strict=(2, "2.parquet"), lenient=(300, 100, "2.parquet")
    ),
    "an empty file": Case(harm=_bytes(lambda data: b""), strict=(2, "2.parquet: is not"), lenient=(300, 0, "not a")),
    "a file that is no Parquet": Case(
        harm=_bytes(lambda data: b"id,x\n1,2\n"), strict=(2, "2.parquet: is not"), lenient=(300, 0, "not a readable")
    ),
    "a file without a row": Case(harm=_table(lambda rows: rows.slice(0, 0)), lenient=(300, 0, "")),
    "a flipped byte in a page with a checksum": Case(
        harm=_flip_a_byte_of_a_page, strict=(2, "2.parquet: row group 0 cannot be read"), lenient=(300, 100, CANNOT)
    ),
    "a file without a feature": Case(
        harm=_table(lambda rows: rows.drop_columns(["x"])), strict=(2, "2.parquet: its columns differ"),
        lenient=(300, 100, "2.parquet"),
    ),
    "a file without a column to keep": Case(
        harm=_table(lambda rows: rows.drop_columns(["note"])), strict=(2, "2.parquet: its columns differ"),
        lenient=(300, 100, "2.parquet"),
    ),
    "a string in a float column": Case(
        harm=_table(_texts), strict=(2, "2.parquet: column 'x' is string, in"), lenient=(300, 100, "number needed")
    ),
    "NaN and both infinities": Case(
        harm=_table(partial(_values, "x", [float("nan"), float("inf"), float("-inf")])),
        lenient=(397, 3, "must "),
        strict=(0, "397 scored + 3 dead"),
    ),
    "a null where training had none": Case(
        harm=_table(partial(_values, "x", [None])), strict=(0, "1 dead"), lenient=(399, 1, "must not be missing")
    ),
    "an unknown category": Case(
        harm=_table(partial(_values, "colour", ["mauve"])), strict=(0, "1 dead"), lenient=(399, 1, "must be one of")
    ),
    "too many unknown categories": Case(
        harm=_table(partial(_values, "colour", ["mauve"] * 50)), strict=(2, "50 of 400 rows break the contract"),
        lenient=(-1, 0, ""),
    ),
    "_SUCCESS and hidden files": Case(harm=_hide_files, lenient=(400, 0, "")),
    "a file that vanishes": Case(
        harm=lambda folder, rows: (folder / FILE).unlink(), late=True, strict=(2, "2.parquet: cannot be read"),
        lenient=(300, 100, "No such file"),
    ),
    "a file that is written anew": Case(
        harm=_table(lambda rows: rows), late=True, strict=(2, f"2.parquet: {CHANGED}"), lenient=(300, 100, CHANGED)
    ),
    "a file that grows": Case(
        harm=_bytes(lambda data: data + b"more"), late=True, strict=(2, f"2.parquet: {CHANGED}"),
        lenient=(300, 100, CHANGED),
    ),
    "a folder that grows": Case(harm=_add_a_file, late=True, strict=(0, "400 scored"), lenient=(400, 0, "")),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, version: Version) -> None:
    monkeypatch.setitem(sys.modules, "raymlops.score.on_ray", in_this_process())


@pytest.fixture
def stage(spec: Spec, tmp_path: Path, rows: pa.Table) -> Callable[[Case, str], int]:
    def run(case: Case, unreadable: str) -> int:
        folder = tmp_path / "rows"

        @contextmanager
        def between() -> Iterator[None]:
            if case.late:
                case.harm(folder, rows)
            yield

        if not case.late:
            case.harm(folder, rows)
        asked = spec.model_copy(update={"score": spec.score.model_copy(update={"unreadable": unreadable})})
        return score(asked, on_cluster=between)

    return run


@pytest.mark.parametrize("name", CASES)
def test_a_strict_run_ends_as_stated(
    name: str, stage: Callable[[Case, str], int], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = CASES[name].strict
    assert (stage(CASES[name], "fail"), _shown(home) > 0) == (code, code == 0)
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("name", CASES)
def test_a_lenient_run_leaves_out_what_it_cannot_read_and_says_so(
    name: str, stage: Callable[[Case, str], int], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scored, dead, why = CASES[name].lenient
    code = stage(CASES[name], "quarantine")
    if scored < 0:
        assert (code, _shown(home)) == (2, 0)
        return
    assert code == 0, capsys.readouterr().err
    (record,) = (home / "runs" / "m").iterdir()
    scores = read_scores(record)
    assert (scores.scored, scores.dead, scores.rows_in) == (scored, dead, scored + dead)
    assert read_answers(scores).num_rows == _shown(home) == scored
    letters = pq.read_table(record / "dead").to_pylist() if (record / "dead").exists() else []
    left_out = [letter for letter in letters if letter["stage"] == "read"]
    assert [Path(name).name for name in scores.quarantined] == [FILE] * len(left_out)
    assert all(why in letter["rule"] + letter["value"] for letter in letters)
    assert bool(letters) == (why != "")
    assert ("left out, unreadable" in capsys.readouterr().err) == bool(left_out)


def test_a_run_that_could_read_nothing_is_no_success(
    spec: Spec, stage: Callable[[Case, str], int], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def empty(folder: Path, rows: pa.Table) -> None:
        for path in folder.iterdir():
            path.write_bytes(b"")

    assert stage(Case(harm=empty), "quarantine") == 2
    assert "none of 4 pieces of the input could be read" in capsys.readouterr().err
    assert _shown(home) == 0


def test_what_could_not_be_read_is_tried_again_when_the_run_goes_on(
    spec: Spec, stage: Callable[[Case, str], int], home: Path, tmp_path: Path
) -> None:
    away = tmp_path / "away"
    assert stage(Case(harm=lambda folder, rows: folder.rename(away), late=True), "quarantine") == 2
    away.rename(tmp_path / "rows")
    assert score(spec.model_copy(update={"score": spec.score.model_copy(update={"unreadable": "quarantine"})})) == 0
    (record,) = (home / "runs" / "m").iterdir()
    scores = read_scores(record)
    assert (scores.scored, scores.dead, scores.quarantined) == (400, 0, ())
    assert not (record / "dead").exists() or pq.read_table(record / "dead").num_rows == 0


def test_a_source_that_grew_is_another_run_next_time(
    spec: Spec, stage: Callable[[Case, str], int], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage(CASES["a folder that grows"], "fail") == 0
    capsys.readouterr()
    assert score(spec) == 0
    said = capsys.readouterr().err
    assert "a new run, for the input changed" in said
    assert "450 scored" in said


def test_a_pickled_extension_type_in_a_file_is_never_executed(
    stage: Callable[[Case, str], int], home: Path, tmp_path: Path
) -> None:
    trap = tmp_path / "executed"
    pickled = f"cposix\nsystem\n(S'touch {trap}'\ntR.".encode()

    def set_a_trap(folder: Path, rows: pa.Table) -> None:
        marked = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": pickled}
        for path in folder.iterdir():
            table = pq.read_table(path)
            field = table.schema.field("x").with_metadata(marked)
            pq.write_table(table.cast(table.schema.set(1, field)), path)

    assert stage(Case(harm=set_a_trap), "fail") == 0
    (record,) = (home / "runs" / "m").iterdir()
    assert read_answers(read_scores(record)).num_rows == 400
    assert not trap.exists()
    # The trap is one that snaps.
    pickle.loads(pickled)
    assert trap.exists()


def _shown(home: Path) -> int:
    out = home / "scores" / "m"
    return int(pa.dataset.dataset(out, format="parquet").count_rows()) if out.exists() else 0
