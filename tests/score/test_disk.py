"""A disk that is full or broken stops a run with its cause; what was done stays done. Without Ray."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from raymlops.data import read_answers, read_scores, run_folder
from raymlops.score.run import run
from raymlops.spec import Spec
from tests.score.faults.here import in_this_process, score
from tests.score.faults.sitecustomize import Fault, faulty


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, break_rows: Callable[[int], None], spec: Spec) -> None:
    """Score in this process; three rows are dead."""
    monkeypatch.setitem(sys.modules, "raymlops.score.on_ray", in_this_process())
    break_rows(3)


@pytest.fixture
def expected(plain_loop: Callable[[], pa.Table]) -> pa.Table:
    return plain_loop()


def _seen(out: Path) -> int:
    return int(pa.dataset.dataset(out, format="parquet").count_rows()) if out.exists() else 0


def _check(out: Path, expected: pa.Table) -> None:
    (manifest,) = out.glob("*/_manifest.json")
    scores = read_scores(run_folder("m", manifest.parent.name))
    assert read_answers(scores).select(expected.column_names).equals(expected)
    assert _seen(out) == expected.num_rows
    assert (scores.rows_in, scores.scored, scores.dead, scores.filtered) == (400, 397, 3, 0)
    assert pq.read_table(run_folder("m", scores.run) / "dead").column("row").to_pylist() == [0, 1, 2]


def _anew(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def test_whichever_step_fails_the_run_says_why_and_goes_on_afterwards(
    spec: Spec, home: Path, expected: pa.Table, capsys: pytest.CaptureFixture[str]
) -> None:
    out = home / "scores" / "m"
    every = Fault(step="open|write|fsync|rename|link|mkdir", path=str(home), nth=0)
    with faulty(every) as steps:
        run(spec)
    assert len(steps) > 50
    for nth in range(1, len(steps) + 1):
        _anew(home / "runs", home / "scores", home / "engines")
        how, text = [("ENOSPC", "No space left on device"), ("EIO", "Input/output error")][nth % 2]
        capsys.readouterr()
        code = score(spec, replace(every, nth=nth, how=how))
        said = capsys.readouterr().err
        assert _seen(out) in (0, expected.num_rows), steps[nth - 1]
        if "score: metrics were not written: " in said:
            assert (code, "/metrics/" in steps[nth - 1]) == (0, True), said
        else:
            assert (code, text in said, "error: OSError" in said) in [(1, True, False), (0, False, False)], said
        assert score(spec) == 0
        _check(out, expected)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Mount an empty disk of 1 MiB over a folder, with so many pages of 4 KiB left free; None frees all of it."""
    mounted: list[Path] = []

    def disk(folder: Path, *, free: int | None) -> None:
        if folder not in mounted:
            folder.mkdir(parents=True, exist_ok=True)
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, text=True
            )
            if done.returncode != 0:
                pytest.skip(f"a small disk needs the right to mount: {done.stderr.strip()}")
            mounted.append(folder)
        if free is None:
            (folder / ".filler").unlink()
            return
        _anew(*(path for path in folder.iterdir() if path.is_dir()))
        (folder / ".filler").write_bytes(b"0" * 4096 * (256 - free))

    yield disk
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


@pytest.mark.parametrize("full", ["scores/m", "runs"])
def test_a_full_disk_fails_the_run_with_its_cause_and_it_goes_on_when_there_is_room(
    full: str, spec: Spec, home: Path, expected: pa.Table, small_disk: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    out = home / "scores" / "m"
    went_on_with = set()
    for free in range(256):
        _anew(home / "runs" / "m", *(out.iterdir() if out.exists() and full == "runs" else ()))
        small_disk(home / full, free=free)
        code = score(spec)
        said = capsys.readouterr().err
        assert _seen(out) in (0, expected.num_rows), free
        if code == 0:
            break
        assert code == 1
        assert "No space left on device" in said, said
        assert "error: OSError" not in said, said
        small_disk(home / full, free=None)
        assert score(spec) == 0
        went_on_with.add(capsys.readouterr().err.split(" pieces to do")[0].rpartition(", ")[2])
        _check(out, expected)
    assert free >= 3
    assert "4 of 4" in went_on_with
    assert went_on_with & {"3 of 4", "2 of 4", "1 of 4", "0 of 4"}, went_on_with


def test_what_was_committed_stays_when_a_later_run_finds_the_disk_full(
    spec: Spec, home: Path, expected: pa.Table, small_disk: Any, break_rows: Callable[[int], None]
) -> None:
    out = home / "scores" / "m"
    small_disk(out, free=256)
    assert score(spec) == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != ".filler"}
    break_rows(2)
    (out / ".filler").write_bytes(b"0" * 4096 * 128)
    with (out / ".more").open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"0" * 4096):
            pass
    assert score(spec) == 1
    assert {path: path.read_bytes() for path in before} == before
    assert _seen(out) == expected.num_rows
    (out / ".more").unlink()
    assert score(spec) == 0
    assert _seen(out) == 2 * expected.num_rows + 1
