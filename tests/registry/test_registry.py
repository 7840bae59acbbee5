"""Versions are content-addressed and verified; aliases move as they are told; MLflow holds every trial."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from raymlops import registry
from raymlops.errors import Conflict, NotFound, SpecError, StageFailed
from raymlops.registry.mlflow_client import client
from raymlops.values import Version


@pytest.fixture(autouse=True, scope="module")
def _home(tmp_path_factory: pytest.TempPathFactory) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYMLOPS_HOME", str(tmp_path_factory.mktemp("home")))
        yield


def _version(name: str, content: bytes) -> Version:
    digest, path = registry.store_folder({"model.json": content})
    return registry.register(name, digest=digest, path=path, run_id=None, tags={})


def test_the_same_bytes_are_the_same_version() -> None:
    first, second, other = (_version("same", data) for data in (b"a", b"a", b"b"))
    assert first == second
    assert (first.number, other.number) == (1, 2)


def test_promotion_keeps_the_previous_champion_and_rollback_returns_to_it() -> None:
    old, new = _version("moves", b"old"), _version("moves", b"new")
    registry.promote(str(old))
    registry.promote(str(new))
    registry.promote(str(new))
    assert registry.resolve("moves").number == new.number
    assert registry.resolve("moves@previous").number == old.number
    assert registry.rollback("moves").number == old.number
    assert registry.resolve("moves@previous").number == new.number


def test_a_promotion_that_saw_another_champion_is_refused() -> None:
    old, new, newest = (_version("swap", data) for data in (b"1", b"2", b"3"))
    registry.promote(str(new))
    with pytest.raises(Conflict, match="the champion is version 2"):
        registry.promote(str(newest), expected=str(old))


def test_of_promotions_that_saw_the_same_champion_one_wins() -> None:
    first, *others = [_version("race", bytes([i])) for i in range(6)]
    registry.promote(str(first))

    def tried(version: Version) -> bool:
        try:
            registry.promote(str(version), expected=str(first))
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(len(others)) as pool:
        won = list(pool.map(tried, others))
    assert sum(won) == 1
    assert registry.resolve("race").number == others[won.index(True)].number
    assert registry.resolve("race@previous").number == first.number


def test_a_trainer_that_left_the_sweep_has_no_finalist_any_more() -> None:
    trees, net, newer = (_version("dropped", data) for data in (b"trees", b"net", b"newer"))
    registry.tag_finalists("dropped", {"xgboost": trees, "pytorch": net})
    registry.tag_finalists("dropped", {"xgboost": newer})
    assert [version.number for version in registry.finalists("dropped")] == [newer.number]


def test_more_models_than_a_page_of_mlflow_are_all_listed() -> None:
    for i in range(102):
        client().create_registered_model(f"many-{i}")
    last = _version("zlast", b"bytes")
    assert last in registry.listed()


def test_a_changed_byte_is_refused_at_every_load() -> None:
    version = _version("bytes", b"true")
    registry.promote(str(version))
    (version.path / "model.json").write_bytes(b"fals")
    with pytest.raises(Conflict, match="a file was changed"):
        registry.resolve("bytes")
    (version.path / "model.json").write_bytes(b"true")
    (version.path / "extra").touch()
    with pytest.raises(Conflict, match="a file was changed, added or lost"):
        registry.resolve("bytes")


def test_what_is_not_there_is_named_with_what_is() -> None:
    _version("known", b"x")
    with pytest.raises(NotFound, match=r"'knwon': is not registered; did you mean 'known'"):
        registry.resolve("knwon")
    with pytest.raises(NotFound, match="no version or alias '9'; it has 1"):
        registry.resolve("known@9")


@pytest.mark.parametrize("name", ["..", "a/b", "a#b", "a\0b", "a' or 'b", "", "аdmin", "x" * 10_000])
def test_a_hostile_name_is_refused_and_touches_nothing(name: str) -> None:
    with pytest.raises(SpecError, match="allowed are letters"):
        registry.resolve(f"{name}@1")


def test_a_sweep_is_recorded_once_however_often_it_is_resumed() -> None:
    for _ in range(2):
        tracker = registry.Tracker(name="tracked", sweep="abc", tags={})
        for index in range(3):
            tracker.record(_run(str(index), auc=0.5))
        ids = tracker.settle()
        tracker.close(metric="auc", value=0.5, winner=0)
    experiment = client().get_experiment_by_name("tracked")
    runs = client().search_runs([experiment.experiment_id])
    assert sorted(run.data.tags["raymlops.trial"] for run in runs) == ["0", "1", "2", "parent"]
    children = [run for run in runs if run.data.tags["raymlops.trial"] != "parent"]
    (parent,) = {run.info.run_id for run in runs if run.data.tags["raymlops.trial"] == "parent"}
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent}
    assert ids == {run.data.tags["raymlops.trial"]: run.info.run_id for run in children}


def test_a_run_that_was_cut_short_while_it_was_written_is_finished_and_not_doubled() -> None:
    tracker = registry.Tracker(name="cut", sweep="abc", tags={})
    tracker.record(_run("0", auc=0.5))
    tracker.settle()
    experiment = client().get_experiment_by_name("cut").experiment_id
    tags = {"raymlops.sweep": "abc", "raymlops.trial": "1"}
    half = client().create_run(experiment, tags=tags).info.run_id
    again = registry.Tracker(name="cut", sweep="abc", tags={})
    for key in ("0", "1"):
        again.record(_run(key, auc=0.5))
    assert again.settle()["1"] == half
    assert client().get_run(half).info.status == "FINISHED"
    assert len(client().search_runs([experiment])) == 3


def test_a_trial_without_metrics_has_failed_and_says_why() -> None:
    tracker = registry.Tracker(name="failed", sweep="abc", tags={})
    tracker.record(registry.Run(key="0", name="xgboost 0", params={}, metrics={}, tags={"raymlops.cause": "no rows"}))
    run = client().get_run(tracker.settle()["0"])
    assert (run.info.status, run.data.tags["raymlops.cause"]) == ("FAILED", "no rows")


def _run(key: str, **metrics: float) -> registry.Run:
    return registry.Run(key=key, name=f"xgboost {key}", params={"a": key}, metrics=metrics)


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(StageFailed):
        registry.store_folder({"a": b"1", "no/such/folder": b"2"})
    models = Path(registry.store_folder({"a": b"1"})[1]).parent
    assert not [path for path in models.iterdir() if path.name.startswith(".")]


def test_what_is_read_from_the_file_is_what_mlflow_says(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third = (_version("read", data) for data in (b"1", b"2", b"3"))
    registry.promote(str(first))
    registry.promote(str(second))
    client().delete_model_version("read", "3")
    from_file = registry.listed("read")
    monkeypatch.setattr("raymlops.registry.versions.stored_versions", lambda name: None)
    assert from_file == registry.listed("read")
    assert [(v.number, v.aliases) for v in from_file] == [(1, ("previous",)), (2, ("champion",))]
    assert third not in from_file


_REGISTER = """
import sys
from raymlops import registry
digest, path = registry.store_folder({"model.json": sys.argv[1].encode()})
print(registry.register("many", digest=digest, path=path, run_id=None, tags={}).number)
"""


def test_processes_that_register_at_once_make_a_version_of_each_content_and_one_line_each(home: Path) -> None:
    contents = ["a", "b", "c", "a", "b", "c"]
    started = [
        subprocess.Popen([sys.executable, "-c", _REGISTER, one], stdout=subprocess.PIPE, text=True) for one in contents
    ]
    numbers = [int(one.communicate(timeout=120)[0]) for one in started]
    assert sorted(set(numbers)) == [1, 2, 3]
    assert numbers[:3] == numbers[3:]
    assert [(one.what, one.version) for one in registry.history("many")] == [("registered", n) for n in (1, 2, 3)]
