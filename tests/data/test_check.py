"""A spec is checked against its data before a machine is asked for."""

import os
import sqlite3
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymlops import data, train
from raymlops.errors import DataError, SpecError
from raymlops.spec import Spec, parse
from raymlops.spec.space import Distribution

_TOO_DEEP = {"max_depth": Distribution(choice=("deep",))}


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


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("  exclude: [x, colour]", "no column is left to predict from"),
        ("  task: regression\n  trusted: [x]", None),
    ],
)
def test_what_is_left_to_predict_from(tmp_path: Path, rows: pa.Table, more: str, message: str | None) -> None:
    spec = _spec(tmp_path, rows, more)
    if message is None:
        assert data.check(spec).label.task == "regression"
        return
    with pytest.raises(DataError, match=message):
        data.check(spec)


def test_a_class_that_only_the_validation_rows_have_is_named(tmp_path: Path, rows: pa.Table) -> None:
    day = np.datetime64("2020-01-01") + np.arange(1000) % 60
    labels = ["later" if d >= np.datetime64("2020-02-01") else ("yes" if i % 3 else "no") for i, d in enumerate(day)]
    odd = rows.set_column(3, "y", pa.array(labels)).append_column("day", pa.array(day))
    more = "  time: day\n  windows: {train: [2020-01-01, 2020-02-01], valid: [2020-02-01, 2020-03-01]}"
    with pytest.raises(DataError, match=r"data\.windows\.valid: label y: unknown class 'later', known are no, yes"):
        data.check(_spec(tmp_path, odd, more))


def test_a_class_of_few_rows_is_parted_by_chance_and_no_leak(tmp_path: Path, rows: pa.Table) -> None:
    values = np.random.default_rng(0).normal(size=1000)
    labels = np.array(["a", "b"])[np.arange(1000) % 2].astype(object)
    labels[np.argsort(values)[-3:]] = "rare"
    made = rows.set_column(3, "y", pa.array(labels.tolist())).append_column("value", pa.array(values))
    assert "value" in data.check(_spec(tmp_path, made)).names


def test_a_regression_label_that_is_nan_is_no_label(tmp_path: Path, rows: pa.Table) -> None:
    y = np.random.default_rng(0).normal(size=1000)
    leak, y[::7] = y * 2, np.nan
    made = rows.set_column(3, "y", pa.array(y)).append_column("leak", pa.array(leak))
    with pytest.raises(DataError, match="'leak' alone predicts"):
        data.check(_spec(tmp_path, made))


def test_a_column_named_like_an_answer_cannot_be_kept(tmp_path: Path, rows: pa.Table) -> None:
    named = rows.append_column("probability", rows.column("x"))
    spec = _spec(tmp_path, named, "  exclude: [probability]", "score: {keep: [probability]}")
    with pytest.raises(
        DataError, match=r"score\.keep: column 'probability' has the name of a column that scoring adds"
    ):
        data.check(spec)


def test_a_free_text_label_is_refused(tmp_path: Path, rows: pa.Table) -> None:
    many = pa.concat_tables([rows, rows]).set_column(3, "y", pa.array([f"text {i}" for i in range(2000)]))
    with pytest.raises(DataError, match=r"1,\d\d\d classes, at most 1,000 are allowed"):
        data.check(_spec(tmp_path, many))


def test_the_faults_of_spec_and_data_come_together(tmp_path: Path, rows: pa.Table) -> None:
    spec = _spec(tmp_path, rows, "  exclude: [nothing]")
    trainers = {"xgboost": spec.train.trainers["xgboost"].model_copy(update={"space": _TOO_DEEP})}
    spec = spec.model_copy(update={"train": spec.train.model_copy(update={"trainers": trainers})})
    with pytest.raises(SpecError) as caught:
        train.check(spec)
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "train.trainers.xgboost.space",
        "data.exclude",
    ]


def test_a_metric_of_another_task_is_refused(tmp_path: Path, rows: pa.Table) -> None:
    spec = _spec(tmp_path, rows)
    spec = spec.model_copy(update={"train": spec.train.model_copy(update={"metric": "rmse"})})
    with pytest.raises(SpecError, match=r"train\.metric: 'rmse' has no meaning for binary"):
        train.check(spec)


def test_rows_that_are_written_again_are_the_same_data_whatever_their_source(tmp_path: Path, rows: pa.Table) -> None:
    spec = _spec(tmp_path, rows)
    before, fingerprints = data.data_fingerprint(spec), [piece.fingerprint for piece in data.source(spec).pieces()]
    os.utime(tmp_path / "rows.parquet", ns=(1, 1))
    assert [piece.fingerprint for piece in data.source(spec).pieces()] != fingerprints
    assert data.data_fingerprint(spec) == before
    with sqlite3.connect(tmp_path / "rows.db") as connection:
        connection.execute("CREATE TABLE rows (x REAL, y INTEGER)")
        connection.executemany("INSERT INTO rows VALUES (?, ?)", [(i / 7, i % 2) for i in range(300)])
    query = {"sql": {"url": f"sqlite:///{tmp_path}/rows.db", "query": "SELECT * FROM rows"}}
    asked = spec.model_copy(update={"data": spec.data.model_copy(update={"source": query, "key": ()})})
    first = data.data_fingerprint(asked)
    assert data.data_fingerprint(asked) == first
    with sqlite3.connect(tmp_path / "rows.db") as connection:
        connection.execute("UPDATE rows SET x = 1 WHERE x = 0")
    assert data.data_fingerprint(asked) != first
