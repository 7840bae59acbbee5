"""A student learns what its teacher answers, is judged by labels, and measured against its teacher."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raymlops import registry
from raymlops.codec import dumps
from raymlops.data import examples, latest_scores, read_contract, run_folder
from raymlops.engine import chosen, predictor
from raymlops.errors import SpecError
from raymlops.optimize import run
from raymlops.spec import parse
from raymlops.train import distil
from raymlops.values import Version
from tests.optimize.conftest import spec_of

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


def test_a_student_learns_from_the_rows_of_a_batch_run_where_there_is_one(
    root: Path, versions: dict[str, Version]
) -> None:
    spec, teacher = spec_of(root), versions["xgboost"]
    folder = run_folder(teacher.name, "r1")
    folder.mkdir(parents=True)
    manifest = {
        "run": "r1",
        "name": "late",
        "number": teacher.number,
        "digest": teacher.digest,
        "on": "production",
        "rows_in": 1,
        "scored": 1,
        "dead": 0,
        "filtered": 0,
        "quarantined": [],
        "keep": [],
        "finished": "2026",
        "input": spec.data.source,
        "source": {"parquet": "scores"},
    }
    (folder / "manifest.json").write_bytes(dumps(manifest))
    student = distil(spec, teacher, SMALL)
    scores = latest_scores(teacher)
    assert lineage(student)["run"] == scores.run
    assert lineage(student)["fitted_on"] == scores.on == "production"


def test_the_stage_measures_a_student_against_its_teacher(root: Path, versions: dict[str, Version]) -> None:
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
