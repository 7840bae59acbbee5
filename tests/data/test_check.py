"""A spec is checked against its data before a machine is asked for."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymlops import data
from raymlops.errors import DataError, SpecError
from raymlops.spec import Spec, parse


def _spec(folder: Path, rows: pa.Table, more: str = "", score: str = "") -> Spec:
    pq.write_table(rows, folder / "rows.parquet")
    return parse(f"""
name: m
data:
  source: {{parquet: {folder}/rows.parquet}}
  label: y
  key: [id]
{more}
train: {{trainers: {{xgboost: {{}}}}}}
{score}
""")


def test_the_contract_comes_back(tmp_path: Path, rows: pa.Table) -> None:
    contract = data.check(_spec(tmp_path, rows))
    assert contract.names == ("x", "colour")
    assert contract.features[1].categories == ("blue", "green", "red")


def test_columns_that_are_not_there_are_all_named(tmp_path: Path, rows: pa.Table) -> None:
    with pytest.raises(DataError) as caught:
        data.check(_spec(tmp_path, rows, "  features: [x, color]\n  exclude: [nothing]"))
    assert [line.split(";")[0] for line in caught.value.problems] == [
        "data.features: column 'color' is not in the data",
        "data.exclude: column 'nothing' is not in the data",
    ]


def test_a_leak_named_in_features_is_named(tmp_path: Path, rows: pa.Table) -> None:
    leaking = rows.append_column("minutes", pa.array(np.asarray(rows.column("y")) * 7.5 + 1))
    with pytest.raises(DataError, match="'minutes' alone predicts the label 'y'"):
        data.check(_spec(tmp_path, leaking, "  features: [x, colour, minutes]"))


def test_a_feature_whose_absence_gives_the_label_away_leaks(tmp_path: Path, rows: pa.Table) -> None:
    landed = pa.array([1.0 if y else None for y in rows.column("y").to_pylist()])
    with pytest.raises(DataError, match="'landed' alone predicts"):
        data.check(_spec(tmp_path, rows.append_column("landed", landed)))


def test_a_trusted_feature_may_predict_alone(tmp_path: Path, rows: pa.Table) -> None:
    leaking = rows.append_column("minutes", pa.array(np.asarray(rows.column("y")) * 7.5))
    assert "minutes" in data.check(_spec(tmp_path, leaking, "  trusted: [minutes]")).names


def test_an_honest_strong_feature_is_no_leak(tmp_path: Path, rows: pa.Table) -> None:
    noise = np.random.default_rng(1).normal(size=1000)
    strong = rows.append_column("strong", pa.array(np.asarray(rows.column("y")) * 3 + noise))
    assert "strong" in data.check(_spec(tmp_path, strong)).names


def test_a_score_source_that_lacks_a_column_is_named(tmp_path: Path, rows: pa.Table) -> None:
    pq.write_table(rows.drop_columns(["x"]), tmp_path / "new.parquet")
    spec = _spec(tmp_path, rows, score=f"score: {{source: {{parquet: {tmp_path}/new.parquet}}}}")
    with pytest.raises(DataError, match=r"score\.source: column 'x': is missing"):
        data.check(spec)


def test_prepare_makes_the_data_once_and_whole(tmp_path: Path) -> None:
    script = tmp_path / "make.py"
    script.write_text(
        "import sys, pathlib, pyarrow as pa, pyarrow.parquet as pq\n"
        "target = pathlib.Path(sys.argv[1]); target.mkdir(parents=True)\n"
        "pq.write_table(pa.table({'x': [1.0, 2.0], 'y': [0, 1]}), target / 'a.parquet')\n"
    )
    spec = parse(f"""
name: m
data: {{prepare: {script}, source: {{parquet: {tmp_path}/made}}, label: y}}
train: {{trainers: {{xgboost: {{}}}}}}
""")
    data.prepare(spec)
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["a.parquet"]
    script.write_text("raise SystemExit('must not run again')")
    data.prepare(spec)


def test_a_prepare_script_that_fails_leaves_nothing(tmp_path: Path) -> None:
    script = tmp_path / "make.py"
    script.write_text("import sys, pathlib\npathlib.Path(sys.argv[1]).mkdir()\nraise ValueError('no rows today')")
    spec = parse(f"""
name: m
data: {{prepare: {script}, source: {{parquet: {tmp_path}/made}}, label: y}}
train: {{trainers: {{xgboost: {{}}}}}}
""")
    with pytest.raises(DataError, match="no rows today"):
        data.prepare(spec)
    assert {path.name for path in tmp_path.iterdir()} == {"make.py"}


def test_a_prepare_script_that_is_not_there_is_named(tmp_path: Path) -> None:
    spec = parse(f"""
name: m
data: {{prepare: {tmp_path}/no.py, source: {{parquet: {tmp_path}/made}}, label: y}}
train: {{trainers: {{xgboost: {{}}}}}}
""")
    with pytest.raises(SpecError, match=r"no\.py is not a file"):
        data.prepare(spec)


def test_an_empty_window_is_named(tmp_path: Path, rows: pa.Table) -> None:
    day = pa.array(np.datetime64("2020-01-01") + np.arange(1000) % 30)
    more = "  time: day\n  windows: {train: [2020-01-01, 2020-02-01], valid: [2021-01-01, 2021-02-01]}"
    with pytest.raises(DataError, match=r"data\.windows\.valid: .* holds no row"):
        data.check(_spec(tmp_path, rows.append_column("day", day), more))


def test_prepare_with_a_pattern_is_refused_and_hides_no_data(tmp_path: Path, rows: pa.Table) -> None:
    pq.write_table(rows, tmp_path / "a.parquet")
    (tmp_path / "make.py").write_text("raise SystemExit('must not run')")
    spec = parse(f"""
name: m
data: {{prepare: {tmp_path}/make.py, source: {{parquet: "{tmp_path}/*.parquet"}}, label: y}}
train: {{trainers: {{xgboost: {{}}}}}}
""")
    with pytest.raises(SpecError, match="is a pattern"):
        data.prepare(spec)
    assert [path.name for path in tmp_path.glob("*.parquet")] == ["a.parquet"]


def test_a_period_without_a_good_row_is_left_out(tmp_path: Path, rows: pa.Table) -> None:
    day = np.datetime64("2020-01-01") + np.arange(1000) % 30
    day[0] = np.datetime64("2020-02-01")
    colours = ["mauve", *rows.column("colour").to_pylist()[1:]]
    odd = rows.set_column(2, "colour", pa.array(colours)).append_column("day", pa.array(day))
    more = "  time: day\n  windows: {train: [2020-01-01, 2020-02-01], valid: [2020-01-15, 2020-03-01]}"
    spec = _spec(tmp_path, odd, more)
    contract = data.infer_contract(spec, on="train")
    assert list(data.examples_by_period(spec, on="valid", contract=contract)) == ["2020-01"]
