"""What a step's identity depends on, and what it does not; and the package of a folder."""

import os
from pathlib import Path
from zipfile import ZipFile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymlops.errors import DataError, SpecError
from raymlops.spec import Spec, parse
from raymlops.submit.identity import STAGES, checked_stages, identity_of
from raymlops.submit.package import packed

SPEC = """
name: toy
data: {source: {parquet: rows.parquet}, label: y}
train: {trainers: {xgboost: {trials: 1}}}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAYMLOPS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def rows(*values: float) -> None:
    pq.write_table(pa.table({"x": list(values), "y": [index % 2 for index in range(len(values))]}), "rows.parquet")


def identities(spec: Spec, *arguments: str) -> dict[str, str]:
    return {stage: identity_of(stage, spec, arguments=arguments, here=True).now for stage in STAGES}


@pytest.mark.parametrize(
    ("section", "changed"),
    [
        pytest.param("optimize: {rows: 7}", {"optimize", "score", "serve", "monitor"}, id="optimize"),
        pytest.param("score: {workers: 3}", {"score", "monitor"}, id="score"),
        pytest.param("serve: {port: 8123}", {"serve"}, id="serve"),
        pytest.param("monitor: {period: day}", {"monitor"}, id="monitor"),
        pytest.param("submit: {attempts: 5}", set(), id="submit"),
    ],
)
def test_a_section_changes_its_stage_and_what_comes_after_it(section: str, changed: set[str]) -> None:
    rows(1, 2)
    before, after = identities(parse(SPEC)), identities(parse(SPEC + section))

    assert {stage for stage in STAGES if before[stage] != after[stage]} == changed


def test_other_data_code_arguments_or_training_make_every_stage_another() -> None:
    rows(1, 2)
    before = identities(parse(SPEC))
    with_arguments = identities(parse(SPEC), "--on", "valid")
    retrained = identities(parse(SPEC.replace("trials: 1", "trials: 2")))
    rows(1, 2, 3)
    with_rows = identities(parse(SPEC))

    for other in (with_arguments, retrained, with_rows):
        assert not set(before.values()) & set(other.values())


def test_data_that_is_still_to_be_prepared_is_named_by_its_script_and_afterwards_by_itself() -> None:
    spec = parse(SPEC.replace("label: y", "label: y, prepare: make.py"))
    Path("make.py").write_text("1")
    pending = identity_of("train", spec, arguments=(), here=True)
    rows(1, 2)
    there = identity_of("train", spec, arguments=(), here=True)
    Path("make.py").write_text("2")

    assert pending.now == pending.pending == there.pending
    assert there.now != pending.now
    assert identity_of("train", spec, arguments=(), here=True).pending != pending.pending


def test_data_that_is_missing_and_not_prepared_is_an_error_here_but_may_lie_elsewhere() -> None:
    with pytest.raises(DataError):
        identity_of("train", parse(SPEC), arguments=(), here=True)

    assert identity_of("train", parse(SPEC), arguments=(), here=False).pending is None


def test_all_wrong_stages_are_named_at_once_with_the_right_word() -> None:
    with pytest.raises(SpecError) as error:
        checked_stages(["trian", "serve", "serve", "deploy"])

    assert [problem[:15] for problem in error.value.problems] == [
        "stage 'trian': ",
        "stage 'deploy':",
        "stage 'serve': ",
    ]
    assert "did you mean 'train'?" in error.value.problems[0]


def test_a_package_is_the_same_for_the_same_files_and_leaves_caches_and_artefacts_out(tmp_path: Path) -> None:
    work = tmp_path / "work"
    for name in ("a.py", "jobs/b.py", ".venv/c.py", "__pycache__/d.pyc"):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(name)
    name, data = packed(work)
    (tmp_path / "a.zip").write_bytes(data)
    os.utime(work / "a.py", (1e9, 1e9))

    assert packed(work) == (name, data)
    with ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == ["a.py", "jobs/b.py"]
    (work / "a.py").write_text("other")
    assert packed(work)[0] != name


def test_another_champion_makes_every_stage_after_training_another_and_the_old_one_back_the_same() -> None:
    from raymlops.registry.mlflow_client import client

    rows(1, 2)
    before = identities(parse(SPEC))
    registry = client()
    registry.create_registered_model("toy")
    for digest in ("a", "b"):
        registry.create_model_version("toy", source="file", tags={"digest": digest, "path": "x"})
    seen = []
    registry.set_registered_model_alias("toy", "another", "2")
    for number in ("1", "2", "1"):
        registry.set_registered_model_alias("toy", "champion", number)
        seen.append(identities(parse(SPEC)))

    assert seen[0] == seen[2]
    for one, other in ((before, seen[0]), (seen[0], seen[1])):
        assert {stage for stage in STAGES if one[stage] != other[stage]} == set(STAGES) - {"train"}
