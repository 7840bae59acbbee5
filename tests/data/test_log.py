"""Lines of a log are read once, whatever rotation makes of its file; what cannot be read on is said."""

import os
from pathlib import Path
from typing import Any

import pytest

from raymlops.data.sources.log import Log
from raymlops.errors import DataError
from raymlops.plugins import build


class _Reader:
    """Reads on from where it stood."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.path, self.options = path, options
        self.last: Any = None

    def new(self) -> list[int]:
        cuts = Log(path=str(self.path), **self.options).since(self.last)
        self.last = cuts[-1] if cuts else self.last
        return [row["id"] for cut in cuts for row in _rows(cut)]


def _rows(cut: Any) -> list[dict[str, Any]]:
    source = build("raymlops.data.sources", cut, where="test")
    return [row for piece in source.pieces() for table in source.read(piece) for row in table.to_pylist()]


def _write(path: Path, *ids: int, tail: str = "") -> None:
    with path.open("a") as file:
        file.write("".join(f'{{"id": {one}}}\n' for one in ids) + tail)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "app.log"
    _write(path, 1, 2)
    return path


def test_half_a_line_is_read_when_it_is_whole(log: Path) -> None:
    reader = _Reader(log)
    _write(log, tail='{"id"')
    assert reader.new() == [1, 2]
    assert reader.new() == []
    _write(log, tail=": 3}")
    assert reader.new() == []
    _write(log, tail="\n\n")
    _write(log, 4)
    assert reader.new() == [3, 4]


def test_a_renamed_file_is_read_on_where_it_was(log: Path, tmp_path: Path) -> None:
    reader = _Reader(log)
    assert reader.new() == [1, 2]
    _write(log, 3)
    log.rename(tmp_path / "app.log.1")
    os.utime(tmp_path / "app.log.1", (1, 1))
    _write(log, 4)
    assert reader.new() == [3, 4]
    (tmp_path / "app.log.1").rename(tmp_path / "app.log.2")
    log.rename(tmp_path / "app.log.1")
    (tmp_path / "app.log.3.gz").write_bytes(b"\x1f\x8bnot a line\n")
    _write(log, 5)
    assert reader.new() == [5]


def test_a_cut_is_read_whatever_its_file_is_called_by_then(log: Path, tmp_path: Path) -> None:
    [cut] = Log(path=str(log)).since(None)
    log.rename(tmp_path / "app.log.1")
    _write(log, 3)
    assert [row["id"] for row in _rows(cut)] == [1, 2]
    (tmp_path / "app.log.1").unlink()
    with pytest.raises(
        DataError, match=r"app\.log: changed while it was being read: what it held up to byte 20 is nowhere"
    ):
        _rows(cut)


def test_a_file_that_one_look_missed_is_not_read_again(log: Path, tmp_path: Path) -> None:
    reader = _Reader(log)
    assert reader.new() == [1, 2]
    log.rename(tmp_path / "hidden")
    _write(log, 3)
    assert reader.new() == [3]
    (tmp_path / "hidden").rename(tmp_path / "app.log.1")
    _write(log, 4)
    assert reader.new() == [4]


@pytest.mark.parametrize("harm", ["cut short", "written anew"])
def test_a_file_that_lost_what_was_read_is_refused_or_read_from_its_start(
    log: Path, harm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    reader = _Reader(log)
    assert reader.new() == [1, 2]
    os.truncate(log, 0)
    _write(log, *((7,) if harm == "cut short" else (7, 8, 9)))
    with pytest.raises(DataError, match=r"app\.log: was cut short or written anew after 20 bytes .* `gaps: skip`"):
        reader.new()
    reader.options = {"gaps": "skip"}
    assert reader.new() == ([7] if harm == "cut short" else [7, 8, 9])
    assert "it goes on with what it holds now" in capsys.readouterr().err


def test_another_file_that_has_the_inode_of_one_that_is_gone_is_read_from_its_start(log: Path, tmp_path: Path) -> None:
    reader = _Reader(log)
    assert reader.new() == [1, 2]
    # As a file system does that gives a freed inode to the next file: same inode, other name and bytes.
    os.truncate(log, 0)
    log.rename(tmp_path / "app.log.new")
    _write(tmp_path / "app.log.new", 5, 6)
    assert reader.new() == [5, 6]


def test_a_folder_holds_the_logs_of_several_services_oldest_first(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    for age, name in ((3, "b.log"), (2, "a-2026-01-01.log"), (1, "a-2026-01-02.log")):
        _write(folder / name, age)
        os.utime(folder / name, (1000 - age, 1000 - age))
    reader = _Reader(folder, max_bytes=5)
    assert reader.new() == [3, 2, 1]
    assert reader.new() == []


def test_a_long_file_is_several_pieces_that_end_with_a_line(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raymlops.data.sources.log._BYTES_OF_A_PIECE", 25)
    _write(log, 3, 4, 5, 6)
    [cut] = Log(path=str(log)).since(None)
    pieces = build("raymlops.data.sources", cut, where="test").pieces()
    assert [(piece.part, piece.parts) for piece in pieces] == [(0, 30), (30, 30)]
    assert [row["id"] for row in _rows(cut)] == [1, 2, 3, 4, 5, 6]
