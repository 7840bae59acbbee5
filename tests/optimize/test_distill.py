"""A student learns what its teacher answers, is judged by labels, and measured against its teacher."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymlops import registry
from raymlops.codec import dumps
from raymlops.contract import encode
from raymlops.data import examples, read_contract, run_folder, table
from raymlops.engine import chosen, predictor
from raymlops.errors import DataError, SpecError, StageFailed
from raymlops.optimize import run
from raymlops.spec import Spec, parse
from raymlops.train import distil
from raymlops.train.trainers.xgboost import Xgboost
from raymlops.values import Float32, Version
from tests.optimize.conftest import fitted, spec_of

SMALL: Any = {"xgboost": {"rounds": 6, "max_depth": 3, "learning_rate": 0.5}}


def lineage(version: Version) -> dict[str, Any]:
    made: dict[str, Any] = json.loads((version.path / "lineage.json").read_bytes())
    return made


def test_a_student_answers_as_its_teacher_does_and_is_no_champion(root: Path, versions: dict[str, Version]) -> None:
    spec, teacher = spec_of(root), versions["pytorch"]
    student = distil(spec, teacher, SMALL)
    rows = examples(spec, on="valid", contract=read_contract(teacher.path))
    mine, theirs = predictor(student).predict(rows.x), predictor(teacher).predict(rows.x)
    assert np.corrcoef(mine, theirs)[0, 1] > 0.9
    assert lineage(student)["teacher"] == teacher.digest
    assert lineage(student)["run"] == ""
    for name in ("contract.json", "profile.json"):
        assert (student.path / name).read_bytes() == (teacher.path / name).read_bytes()
    assert registry.resolve("late@student").digest == student.digest
    assert registry.resolve("late@champion").digest == versions["xgboost"].digest
    assert distil(spec, teacher, SMALL).number == student.number


def test_a_student_learns_the_answers_of_a_batch_run_where_there_is_one(
    root: Path, versions: dict[str, Version], capsys: pytest.CaptureFixture[str]
) -> None:
    """The answers of the run are those of the teacher turned round, and every second row has none."""
    spec = spec_of(root)
    teacher = fitted(spec, Xgboost(rounds=18, max_depth=3))
    rows, p = asked(spec, teacher)
    scored(spec, teacher, "r1", {"id": rows["id"][::-2], "probability": pa.array(1 - p[::-2])})
    student = distil(spec, teacher, SMALL)
    assert np.corrcoef(asked(spec, student)[1], p)[0, 1] < -0.9
    assert lineage(student)["run"] == "r1"
    assert lineage(student)["fitted_on"] == "production"
    assert "on the rows of run r1\n" in capsys.readouterr().err
    assert distil(spec, teacher, SMALL).number == student.number


def test_without_a_key_the_teacher_answers_the_rows_of_the_run_again(
    root: Path, versions: dict[str, Version], capsys: pytest.CaptureFixture[str]
) -> None:
    spec = spec_of(root)
    spec = spec.model_copy(update={"data": spec.data.model_copy(update={"key": (), "ignore": ("id",)})})
    teacher = fitted(spec, Xgboost(rounds=15, max_depth=3))
    _, p = asked(spec, teacher)
    scored(spec, teacher, "r2", {"probability": pa.array(1 - p)})
    student = distil(spec, teacher, SMALL)
    assert np.corrcoef(asked(spec, student)[1], p)[0, 1] > 0.9
    assert lineage(student)["run"] == "r2"
    assert "run r2, which its teacher answers again: data.key is empty" in capsys.readouterr().err


def test_answers_that_belong_to_no_row_are_refused(root: Path, versions: dict[str, Version]) -> None:
    spec = spec_of(root)
    teacher = fitted(spec, Xgboost(rounds=16, max_depth=3))
    scored(spec, teacher, "r3", {"id": pa.array([-1, -2]), "probability": pa.array([0.5, 0.5])})
    with pytest.raises((DataError, StageFailed), match=r"run r3: no row of its input has the key \(id\) of an answer"):
        distil(spec, teacher, SMALL)


@pytest.mark.parametrize("trainer", [SMALL, {"pytorch": {"hidden": [16], "epochs": 30, "batch_size": 64}}])
@pytest.mark.parametrize(("label", "answer"), [("distance", "number"), ("colour", "class")])
def test_a_student_of_numbers_learns_them_and_one_of_classes_the_likeliest(
    root: Path, home: Path, label: str, answer: str, trainer: Any
) -> None:
    spec = spec_of(root)
    data = spec.data.model_copy(update={"label": label})
    spec = spec.model_copy(update={"name": label, "data": data})
    teacher = fitted(spec, Xgboost(rounds=20, max_depth=3))
    student = distil(spec, teacher, trainer)
    theirs, mine = asked(spec, teacher)[1], asked(spec, student)[1]
    if answer == "number":
        assert np.corrcoef(mine, theirs)[0, 1] > 0.8
    else:
        assert mine.shape == theirs.shape == (len(mine), 4)
        assert np.mean(mine.argmax(axis=1) == theirs.argmax(axis=1)) > 0.5


def test_the_likeliest_class_of_a_batch_run_is_learnt(root: Path, home: Path) -> None:
    """Every row of the run says c3, which the teacher itself seldom does."""
    spec = spec_of(root)
    spec = spec.model_copy(update={"name": "colour", "data": spec.data.model_copy(update={"label": "colour"})})
    teacher = fitted(spec, Xgboost(rounds=17, max_depth=3))
    rows, p = asked(spec, teacher)
    assert np.mean(p.argmax(axis=1) == 3) < 0.9
    told = {f"probability_c{i}": pa.array(np.full(len(p), 0.7 if i == 3 else 0.1, np.float32)) for i in range(4)}
    scored(spec, teacher, "r4", {"id": rows["id"], "prediction": pa.array(["c3"] * len(p)), **told})
    assert (asked(spec, distil(spec, teacher, SMALL))[1].argmax(axis=1) == 3).all()


def asked(spec: Spec, version: Version) -> tuple[pa.Table, Float32]:
    """Return the rows of the window `production`, and what a version answers to them."""
    contract = read_contract(version.path)
    rows = table(spec, on="production", columns=[*spec.data.key, *contract.names])
    x = encode(contract, {name: rows.column(name) for name in contract.names}).x
    return rows, predictor(version).predict(x)


def scored(spec: Spec, version: Version, run: str, answers: dict[str, Any]) -> None:
    """Leave what a committed batch run of the window `production` leaves."""
    folder = run_folder(version.name, run)
    folder.mkdir(parents=True)
    pq.write_table(pa.table(answers), folder / "scores.parquet")
    count = len(next(iter(answers.values())))
    manifest = {
        "run": run,
        "name": version.name,
        "number": version.number,
        "digest": version.digest,
        "on": "production",
        "rows_in": count,
        "scored": count,
        "dead": 0,
        "filtered": 0,
        "quarantined": [],
        "keep": [],
        "finished": "2026",
        "input": spec.data.source,
        "source": {"parquet": str(folder / "scores.parquet")},
    }
    (folder / "manifest.json").write_bytes(dumps(manifest))


def test_the_stage_measures_a_student_against_its_teacher(
    root: Path, versions: dict[str, Version], capsys: pytest.CaptureFixture[str]
) -> None:
    spec = spec_of(root, engines=["native"], distill=SMALL)
    made: Any = run(spec)
    student = registry.resolve("late@student")
    row = next(row for row in made["table"] if row["version"] == str(student))
    (teacher,) = (row for row in made["table"] if row["version"] == str(versions["xgboost"]))
    assert row["fall"] == pytest.approx(max(0.0, teacher["value"] - row["value"]))
    assert row["size_bytes"] < teacher["size_bytes"]
    assert chosen(student) == ("native", {})
    assert made["student"]["model"] == str(student)
    assert made["student"]["within_budget"] is (row["verdict"] == "chosen") is True
    assert f"{row['size_bytes'] / 1e3:.3g} against {teacher['size_bytes'] / 1e3:.3g} kB" in made["student"]["gains"]
    assert json.loads(Path(made["outputs"][0]).read_bytes())["student"] == made["student"]
    said = capsys.readouterr().err
    assert f"{student} (student)" in said
    assert f"the student {student} beats its teacher {versions['xgboost']} within the budget: " in said


def test_a_student_over_the_budget_gains_nothing_and_a_stage_without_one_says_none(
    root: Path, versions: dict[str, Version]
) -> None:
    poor: Any = {"xgboost": {"rounds": 1, "max_depth": 1}}
    made: Any = run(spec_of(root, engines=["native"], distill=poor, budget={"error": 1e-6, "p99_ms": 500}))
    assert made["student"] == {"model": str(registry.resolve("late@student")), "within_budget": False, "gains": ""}
    assert run(spec_of(root, engines=["native"]))["student"] is None


def test_a_student_that_became_champion_gets_no_student_of_its_own(root: Path, versions: dict[str, Version]) -> None:
    spec = spec_of(root, engines=["native"], distill=SMALL)
    student = distil(spec, versions["xgboost"], SMALL)
    registry.promote(f"late@{student.number}")
    before = registry.listed("late")
    made: Any = run(spec)
    assert made["model"] == str(student)
    assert made["student"] is None
    assert registry.listed("late") == before


def test_a_student_is_judged_by_the_metric_of_its_teacher(root: Path, versions: dict[str, Version]) -> None:
    spec = spec_of(root, engines=["native"], distill=SMALL)
    other = spec.model_copy(update={"train": spec.train.model_copy(update={"metric": "logloss"})})
    made: Any = run(other)
    (teacher,) = (row for row in made["table"] if row["version"] == str(versions["xgboost"]))
    (student,) = (row for row in made["table"] if row["version"] == made["student"]["model"])
    assert student["value"] > 0.5  # an area under the curve, as the teacher's
    assert student["fall"] == pytest.approx(max(0.0, teacher["value"] - student["value"]))


def test_a_trainer_that_is_not_there_is_refused_where_it_stands(root: Path) -> None:
    text = f"""
name: late
data: {{source: {{parquet: {root / "rows.parquet"}}}, label: late}}
train: {{trainers: {{xgboost: {{}}}}}}
optimize: {{distill: xgbost}}
"""
    with pytest.raises(SpecError, match=r"optimize\.distill: unknown kind 'xgbost'.*did you mean 'xgboost'"):
        parse(text)
