"""What comes of files that are not as they should be: each case has one stated outcome."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymlops.data.sources.csv import Csv
from raymlops.data.sources.jsonl import Jsonl
from raymlops.data.sources.parquet import Parquet
from raymlops.errors import DataError
from raymlops.protocols import Source


def _rows(source: Source) -> list[dict[str, object]]:
    return [row for piece in source.pieces() for part in source.read(piece) for row in part.to_pylist()]


@pytest.mark.parametrize(
    ("kind", "name", "says"),
    [(Parquet, "a.parquet", "is not a readable Parquet file"), (Csv, "a.csv", "cannot be read as CSV: Empty CSV file")],
    ids=["parquet", "csv"],
)
def test_a_file_of_no_bytes_has_no_columns_and_is_refused(
    kind: Callable[..., Source], name: str, says: str, tmp_path: Path
) -> None:
    (tmp_path / name).touch()
    source = kind(path=str(tmp_path))
    with pytest.raises(DataError, match=f"{name}: {says}"):
        source.schema()
    assert len(source.pieces()) == 1
    with pytest.raises(DataError, match=f"{name}: {says}"):
        _rows(source)


def test_json_lines_of_no_bytes_are_no_rows(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    (tmp_path / "b.jsonl").write_text('{"n": 1}\n')
    (tmp_path / "c.jsonl").write_text("\n\n")
    source = Jsonl(path=str(tmp_path))
    assert source.schema() == pa.schema([("n", pa.int64())])
    assert _rows(source) == [{"n": 1}]


def test_a_parquet_file_without_rows_is_no_piece(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": pa.array([], pa.int64())}), tmp_path / "a.parquet")
    assert Parquet(path=str(tmp_path)).pieces() == []
    pq.write_table(pa.table({"n": [1]}), tmp_path / "b.parquet")
    assert _rows(Parquet(path=str(tmp_path))) == [{"n": 1}]


def test_a_csv_of_a_header_only_is_no_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("n,t\n")
    assert _rows(Csv(path=str(tmp_path))) == []
    (tmp_path / "b.csv").write_text("n,t\n1,x\n")
    assert _rows(Csv(path=str(tmp_path))) == [{"n": 1, "t": "x"}]
    assert Csv(path=str(tmp_path)).schema().types == [pa.int64(), pa.string()]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("\ufeffn,t\n1,x\n", [{"n": 1, "t": "x"}]),
        ("n,t\n1,x\n2,y", [{"n": 1, "t": "x"}, {"n": 2, "t": "y"}]),
        ('n,t\r\n1,"x\r\ny"\r\n', [{"n": 1, "t": "x\r\ny"}]),
        ('n,t\n1,"say ""hi"", then"\n', [{"n": 1, "t": 'say "hi", then'}]),
        ("n,t\n\n1,x\n\n", [{"n": 1, "t": "x"}]),
    ],
    ids=["byte order mark", "no last line end", "quoted line end", "quoted quote", "blank lines"],
)
def test_csv_is_read_as_it_is_meant(text: str, rows: list[object], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(text.encode())
    assert _rows(Csv(path=str(tmp_path))) == rows


def test_a_quoted_line_end_is_read_wherever_blocks_are_cut(tmp_path: Path) -> None:
    lines, rows = 'a,"b\nc"\n', 1_200_000
    (tmp_path / "a.csv").write_text("x,y\n" + lines * rows)
    source = Csv(path=str(tmp_path))
    (piece,) = source.pieces()
    parts = list(source.read(piece))
    assert len(parts) > 1
    assert sum(len(part) for part in parts) == rows
    assert all(part.column("y").unique().to_pylist() == ["b\nc"] for part in parts)


@pytest.mark.parametrize(
    ("kind", "name", "first", "line", "odd"),
    [(Csv, "a.csv", "n\n", "1.5\n", "word\n"), (Jsonl, "a.jsonl", "", '{"n": 1.5}\n', '{"n": "word"}\n')],
    ids=["csv", "jsonl"],
)
def test_a_value_of_another_type_far_into_a_file_is_refused_and_the_file_named(
    kind: Callable[..., Source], name: str, first: str, line: str, odd: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(first + line * 2_000_000 + odd)
    source = kind(path=str(tmp_path))
    assert source.schema() == pa.schema([("n", pa.float64())])
    with pytest.raises(DataError, match=rf"{name}: .*types come from the first 4 MiB of each file: mend the value"):
        _rows(source)


@pytest.mark.parametrize(
    ("kind", "name", "good", "odd"),
    [(Csv, "csv", "n\n1.5\n", "n\nword\n"), (Jsonl, "jsonl", '{"n": 1.5}\n', '{"n": "word"}\n')],
    ids=["csv", "jsonl"],
)
def test_a_text_among_numbers_is_refused_when_a_file_disagrees(
    kind: Callable[..., Source], name: str, good: str, odd: str, tmp_path: Path
) -> None:
    (tmp_path / f"a.{name}").write_text(good)
    (tmp_path / f"b.{name}").write_text(odd)
    with pytest.raises(DataError, match=r"files disagree about a type: .*n"):
        kind(path=str(tmp_path)).schema()


def test_json_lines_may_be_blank_and_the_last_may_not_end(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('\n{"n": 1}\n\n\n{"n": 2}\n   \n{"n": 3}')
    assert _rows(Jsonl(path=str(tmp_path))) == [{"n": 1}, {"n": 2}, {"n": 3}]


WRITERS: dict[str, tuple[Callable[..., Source], Callable[[Path], object]]] = {
    "a.parquet": (Parquet, lambda path: pq.write_table(pa.table({"n": range(400_000)}), path)),
    "a.csv": (Csv, lambda path: path.write_text("n\n" + "1234567\n" * 2_000_000)),
    "a.jsonl": (Jsonl, lambda path: path.write_text('{"n": 1234567}\n' * 1_000_000)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_vanishes_after_it_was_listed_is_named(name: str, tmp_path: Path) -> None:
    kind, write = WRITERS[name]
    write(tmp_path / name)
    source = kind(path=str(tmp_path))
    source.schema()
    (piece,) = source.pieces()
    (tmp_path / name).rename(tmp_path / f"gone-{name}")
    with pytest.raises(DataError, match=f"{name}: cannot be read: .*No such file"):
        list(source.read(piece))


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_grows_while_it_is_read_is_refused(name: str, tmp_path: Path) -> None:
    kind, write = WRITERS[name]
    write(tmp_path / name)
    source = kind(path=str(tmp_path))
    (piece,) = source.pieces()
    reading: Iterator[pa.Table] = source.read(piece)
    next(reading)
    with (tmp_path / name).open("ab") as file:
        file.write(b'{"n": 7}\n' if name.endswith("l") else b"7\n")
    with pytest.raises(DataError, match=f"{name}: changed while it was being read"):
        list(reading)


def _flipped(path: Path, **options: object) -> None:
    """Write 10,000 numbers whose values are stored as they are, and flip one bit of one of them."""
    numbers = pa.array([number / 7 for number in range(10_000)])
    pq.write_table(pa.table({"n": numbers}), path, compression="none", use_dictionary=False, **options)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_flipped_bit_in_a_page_is_found_by_the_page_s_checksum(tmp_path: Path) -> None:
    _flipped(tmp_path / "a.parquet", write_page_checksum=True)
    with pytest.raises(DataError, match=r"a\.parquet: row group 0 cannot be read: .*CRC"):
        _rows(Parquet(path=str(tmp_path)))


def test_a_flipped_bit_in_a_page_without_checksums_is_another_value_of_another_input(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": [number / 7 for number in range(10_000)]}), tmp_path / "a.parquet",
                   compression="none", use_dictionary=False)  # fmt: skip
    (piece,) = Parquet(path=str(tmp_path)).pieces()
    _flipped(tmp_path / "a.parquet")
    assert len(_rows(Parquet(path=str(tmp_path)))) == 10_000
    with pytest.raises(DataError, match="changed while"):
        list(Parquet(path=str(tmp_path)).read(piece))


def test_a_flipped_bit_in_a_compressed_page_without_checksums_is_never_fewer_rows(tmp_path: Path) -> None:
    pq.write_table(pa.table({"n": range(10_000)}), tmp_path / "a.parquet", compression="zstd")
    whole = (tmp_path / "a.parquet").read_bytes()
    outcomes = set()
    for place in range(100, len(whole) - 2_000, 997):
        data = bytearray(whole)
        data[place] ^= 1
        (tmp_path / "a.parquet").write_bytes(data)
        try:
            outcomes.add(len(_rows(Parquet(path=str(tmp_path)))))
        except DataError:
            outcomes.add(-1)
    assert outcomes <= {-1, 10_000}
