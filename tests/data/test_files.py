"""Where files are: folders that are columns, names that are no data, text that is compressed."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from raymlops.data import source_digest
from raymlops.data.sources.csv import Csv
from raymlops.data.sources.jsonl import Jsonl
from raymlops.data.sources.parquet import Parquet
from raymlops.errors import DataError
from raymlops.protocols import Source
from raymlops.testing.source_laws import check_source

Write = Callable[[Path, int], None]


def _parquet(path: Path, value: int) -> None:
    pq.write_table(pa.table({"a": [value]}), path.with_suffix(".parquet"))


def _csv(path: Path, value: int) -> None:
    path.with_suffix(".csv").write_text(f"a\n{value}\n")


def _jsonl(path: Path, value: int) -> None:
    path.with_suffix(".jsonl").write_text(f'{{"a": {value}}}\n')


KINDS = pytest.mark.parametrize(
    ("kind", "write"), [(Parquet, _parquet), (Csv, _csv), (Jsonl, _jsonl)], ids=["parquet", "csv", "jsonl"]
)


def _tree(root: Path, write: Write, *folders: str) -> None:
    for index, folder in enumerate(folders):
        (root / folder).mkdir(parents=True, exist_ok=True)
        write(root / folder / "x", index)


def _rows(source: Source) -> list[dict[str, object]]:
    return [row for piece in source.pieces() for part in source.read(piece) for row in part.to_pylist()]


@KINDS
def test_folders_are_columns_of_one_type_over_all_paths(
    kind: Callable[..., Source], write: Write, tmp_path: Path
) -> None:
    _tree(tmp_path, write, "year=2012/place=New%20York", "year=2013/place=7", "year=__HIVE_DEFAULT_PARTITION__/place=")
    source = kind(path=str(tmp_path))
    expected = pa.table({"a": [0, 1, 2], "year": [2012, 2013, None], "place": ["New York", "7", ""]})
    assert source.schema() == expected.schema
    check_source(source, expected)
    (piece,) = (piece for piece in source.pieces() if "2013" in piece.source)
    only = pa.concat_tables(kind(path=str(tmp_path)).read(piece, columns=["place", "year"]))
    assert only.to_pylist() == [{"place": "7", "year": 2013}]


@KINDS
def test_a_folder_that_is_named_itself_is_no_column_but_a_pattern_s_are(
    kind: Callable[..., Source], write: Write, tmp_path: Path
) -> None:
    _tree(tmp_path, write, "year=2012/month=01", "year=2013/month=12")
    assert _rows(kind(path=str(tmp_path / "year=2013"))) == [{"a": 1, "month": 12}]
    assert _rows(kind(path=str(tmp_path / "year=*" / "*" / "x.*"))) == [
        {"a": 0, "year": 2012, "month": 1},
        {"a": 1, "year": 2013, "month": 12},
    ]


@KINDS
def test_folders_of_other_names_are_refused(kind: Callable[..., Source], write: Write, tmp_path: Path) -> None:
    _tree(tmp_path, write, "year=2012", "month=1")
    with pytest.raises(DataError, match=r"lies in year=…, .* in month=…; all files must lie in folders alike"):
        kind(path=str(tmp_path)).schema()
    _tree(tmp_path, write, "year=2012", ".")
    (tmp_path / "month=1").rename(tmp_path / "_month=1")
    with pytest.raises(DataError, match="no such folder"):
        _rows(kind(path=str(tmp_path / "**" / "x.*")))


@KINDS
def test_a_column_that_the_file_holds_itself_is_the_file_s(
    kind: Callable[..., Source], write: Write, tmp_path: Path
) -> None:
    _tree(tmp_path, write, "a=9/b=1")
    assert _rows(kind(path=str(tmp_path))) == [{"a": 0, "b": 1}]
    assert kind(path=str(tmp_path)).schema().names == ["a", "b"]


@KINDS
def test_a_file_that_moves_to_another_folder_is_another_input(
    kind: Callable[..., Source], write: Write, tmp_path: Path
) -> None:
    _tree(tmp_path, write, "year=2012", "year=2014")
    before = [piece.fingerprint for piece in kind(path=str(tmp_path)).pieces()]
    (tmp_path / "year=2012").rename(tmp_path / "year=2013")
    after = [piece.fingerprint for piece in kind(path=str(tmp_path)).pieces()]
    assert before[0] != after[0]
    assert before[1] == after[1]
    digest = source_digest(kind(path=str(tmp_path)))
    (tmp_path / "year=2013").rename(tmp_path / "year=2011")
    assert source_digest(kind(path=str(tmp_path))) != digest
    (tmp_path / "year=2011").rename(tmp_path / "year=2013")
    assert source_digest(kind(path=str(tmp_path))) == digest
    (tmp_path / "elsewhere=1").mkdir()
    for folder in ("year=2013", "year=2014"):
        (tmp_path / folder).rename(tmp_path / "elsewhere=1" / folder)
    assert source_digest(kind(path=str(tmp_path / "elsewhere=1"))) == digest


@KINDS
def test_a_new_folder_that_changes_a_type_stops_who_listed_before(
    kind: Callable[..., Source], write: Write, tmp_path: Path
) -> None:
    _tree(tmp_path, write, "year=2012")
    (piece,) = kind(path=str(tmp_path)).pieces()
    _tree(tmp_path, write, "year=2012", "year=unknown")
    with pytest.raises(DataError, match="changed while"):
        list(kind(path=str(tmp_path)).read(piece))


@KINDS
def test_what_is_hidden_is_no_data(kind: Callable[..., Source], write: Write, tmp_path: Path) -> None:
    _tree(tmp_path, write, "in", "in/_temporary/0", "in/.staged", "in/_delta_log")
    for name in ("_SUCCESS", "_manifest.json", ".x.parquet.crc", ".x.csv.crc", "._x.jsonl", "_x.csv", "notes.txt"):
        (tmp_path / "in" / name).write_bytes(b"no data")
    (tmp_path / "in" / "folder.parquet").mkdir()
    (tmp_path / "in" / "folder.csv").mkdir()
    assert _rows(kind(path=str(tmp_path / "in"))) == [{"a": 0}]
    assert _rows(kind(path=str(tmp_path / "in" / "x*"))) == [{"a": 0}]


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_compressed_text_is_read_as_what_it_was_made_of(codec: str, tmp_path: Path, rows: pa.Table) -> None:
    ending = {"gzip": ".gz", "zstd": ".zst"}[codec]
    pa_csv.write_csv(rows.slice(0, 600), tmp_path / "a.csv")
    with pa.CompressedOutputStream(str(tmp_path / f"b.csv{ending}"), codec) as file:
        pa_csv.write_csv(rows.slice(600), file)
    check_source(Csv(path=str(tmp_path)), rows)
    with pa.CompressedOutputStream(str(tmp_path / f"b.jsonl{ending}"), codec) as file:
        file.write(b'{"a": 1}\n{"a": 2}\n')
    check_source(Jsonl(path=str(tmp_path)), pa.table({"a": [1, 2]}))


def test_compressed_text_is_read_block_by_block(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"a\n" + b"12345\n" * 50_000_000, compresslevel=1))
    source = Csv(path=str(tmp_path))
    (piece,) = source.pieces()
    before, rows, most = pa.total_allocated_bytes(), 0, 0
    for part in source.read(piece):
        rows, most = rows + len(part), max(most, pa.total_allocated_bytes() - before)
    assert rows == 50_000_000
    assert most < 200 << 20, "the whole is 300 MB of text and 400 MB of numbers"


def test_a_compressed_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(b"a\n" + b"".join(b"%d\n" % number for number in range(200_000)))
    (tmp_path / "a.csv.gz").write_bytes(whole[: len(whole) // 2])
    source = Csv(path=str(tmp_path))
    with pytest.raises(DataError, match=r"a\.csv\.gz: cannot be read as CSV"):
        _rows(source)
