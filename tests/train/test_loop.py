"""What is decided between trials: what has ended is not run again, a failure is tried once more and then told."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raymlops.contract import Contract, Feature, Label
from raymlops.errors import StageFailed
from raymlops.spec import TrainSpec
from raymlops.train import Result, Trial, first_batch
from raymlops.train.asha import Ladder, ended, next_trial
from raymlops.train.fit import Setting
from raymlops.train.loop import Runner, run_sweep
from raymlops.train.repeat import repeated
from raymlops.train.trial import read_result, trial_folder, try_trial
from raymlops.values import Examples

SECTION = TrainSpec.model_validate({
    "trainers": {"xgboost": {"trials": 6, "options": {"rounds": 8}, "space": {"max_depth": {"integers": [1, 6]}}}},
})  # fmt: skip


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    x = np.random.default_rng(0).normal(size=(400, 2)).astype(np.float32)
    rows = Examples(x=x, y=(x[:, 0] * x[:, 1] > 0).astype(np.float64))
    features = tuple(Feature(name=name, type="number", nullable=False) for name in "ab")
    contract = Contract(features=features, label=Label(name="y", task="binary", classes=("0", "1")))
    return Setting(train=rows, valid=rows, contract=contract, sweep=tmp_path, threads=1, stop_early=False)


class Workers:
    """One worker in this process; what it is told to fail fails, ``deaths`` kill it."""

    def __init__(self, setting: Setting, fails: dict[int, int], deaths: Sequence[int] = ()) -> None:
        self.setting, self.fails, self.deaths = setting, fails, deaths
        self.waiting: list[Trial] = []
        self.ran: list[int] = []

    def put(self, trials: Sequence[Trial]) -> None:
        self.waiting += trials

    def ended(self) -> tuple[Trial, Result | None, str]:
        trial = self.waiting.pop()  # the last first: nothing may depend on the order
        self.ran.append(trial.index)
        if trial.index in self.deaths:
            return trial, None, "its worker died 4 times"
        if self.fails.get(trial.index, 0):
            self.fails[trial.index] -= 1
            wrong = Trial(index=trial.index, trainer="xgboost", options={"rounds": -1}, seed=0, point={})
            return trial, try_trial(wrong, self.setting), ""
        return trial, try_trial(trial, self.setting), ""


def runner(setting: Setting, workers: Workers | None = None) -> Runner:
    @contextmanager
    def hire() -> Iterator[Any]:
        assert workers is not None, "nobody is to be hired"
        yield workers

    return Runner(sweep=setting.sweep, setting=lambda: setting, hire=hire, heard=lambda result: None)


def test_a_trial_that_raises_is_tried_once_more_with_the_same_configuration(setting: Setting) -> None:
    workers = Workers(setting, {2: 1})
    with runner(setting, workers) as ours:
        found = run_sweep(SECTION, "auc", ours)
    assert sorted(workers.ran) == [0, 1, 2, 2, 3, 4, 5]
    assert [one.index for one in found] == list(range(6))
    assert all(one.metrics for one in found)


def test_one_that_raises_again_has_failed_for_good_also_when_the_sweep_goes_on(setting: Setting) -> None:
    workers = Workers(setting, {2: 9})
    with runner(setting, workers) as ours:
        found = run_sweep(SECTION, "auc", ours)
    assert workers.ran.count(2) == 2
    assert "rounds" in found[2].cause or found[2].cause
    with runner(setting) as ours:
        assert run_sweep(SECTION, "auc", ours) == found


def test_one_whose_workers_die_has_failed_with_that_as_its_cause(setting: Setting) -> None:
    with runner(setting, Workers(setting, {}, deaths=[4])) as ours:
        found = run_sweep(SECTION, "auc", ours)
    assert found[4].cause == "its worker died 4 times"
    assert read_result(setting.sweep, 4) == found[4]


def test_only_what_has_not_ended_is_run_and_a_single_one_needs_no_worker(setting: Setting) -> None:
    for trial in first_batch(SECTION)[:5]:
        try_trial(trial, setting)
    with runner(setting) as ours:
        found = run_sweep(SECTION, "auc", ours)
    assert [one.index for one in found] == list(range(6))


def test_what_the_machine_cannot_write_stops_the_sweep_and_is_no_result_of_the_trial(setting: Setting) -> None:
    (setting.sweep / "file").write_text("no folder can be made below it")
    workers = Workers(replace(setting, sweep=setting.sweep / "file"), {})
    two = first_batch(SECTION)[:2]
    with (
        runner(setting, workers) as ours,
        pytest.raises(StageFailed, match=r"trial \d could not be run: NotADirectory"),
    ):
        ours.run(two)
    assert [read_result(setting.sweep, trial.index) for trial in two] == [None, None]


def test_halving_gives_the_full_length_to_the_best_and_keeps_every_rung(setting: Setting) -> None:
    halved = SECTION.model_copy(
        update={
            "halving": TrainSpec.model_validate(
                {"trainers": {"xgboost": {}}, "halving": {"factor": 2, "rungs": 2}}
            ).halving
        }
    )
    with runner(setting, Workers(setting, {})) as ours:
        found = run_sweep(halved, "auc", ours)
    short = [read_result(setting.sweep, index) for index in range(6)]
    assert {one.share for one in short if one} == {0.5}
    best = sorted(short, key=lambda one: -one.metrics["auc"] if one else 0)[:3]
    assert {one.index for one in found if one.share == 1} == {one.index for one in best if one}
    assert {one.params["rounds"] for one in found if one.share == 1} == {8}
    assert {one.params["rounds"] for one in short if one} == {4}


def test_a_second_fit_of_the_winner_is_bit_equal_and_a_changed_one_is_not(setting: Setting) -> None:
    (trial, *_) = first_batch(SECTION)
    result = try_trial(trial, setting)
    ours = runner(setting)
    assert repeated(result, setting.sweep, lambda: setting, ours.run) == "bit-equal"
    again = trial_folder(setting.sweep / "again", 0)
    assert again.is_dir()
    other = try_trial(Trial(index=1, trainer="xgboost", options={"rounds": 2}, seed=0, point={}), setting)
    (trial_folder(setting.sweep, 1) / "model.ubj").replace(trial_folder(setting.sweep, 0) / "model.ubj")
    assert other.metrics
    assert repeated(result, setting.sweep, lambda: setting, ours.run).startswith(
        "not repeatable: answers of the two fits differ by"
    )


def _judged(trial: Trial, auc: float) -> Result:
    return Result(
        index=trial.index, trainer=trial.trainer, options={}, seed=0, params={}, metrics={"auc": auc}, seconds=0.0,
        rung=trial.rung, share=trial.share,
    )  # fmt: skip


def test_without_barriers_the_best_of_those_that_ended_go_on_and_nothing_runs_twice() -> None:
    train = TrainSpec.model_validate({
        "halving": {"factor": 2, "rungs": 3, "asynchronous": True},
        "trainers": {"xgboost": {"trials": 8, "space": {"max_depth": {"integers": [1, 6]}}}},
    })  # fmt: skip
    ladder, begun = Ladder(train=train, metric="auc"), []
    while True:
        ladder, trial = next_trial(ladder)
        if trial is None:
            break
        begun.append((trial.index, trial.rung))
        ladder = ended(ladder, _judged(trial, trial.index / 10))
    assert len(set(begun)) == len(begun)
    assert [index for index, rung in begun if rung == 0] == list(range(8))
    for rung in (1, 2):
        below = [index for index, of in begun if of == rung - 1]
        assert {index for index, of in begun if of == rung} <= set(below)
        assert len([index for index, of in begun if of == rung]) >= len(below) // 2
    assert (7, 2) in begun, "the best of all goes the whole way"
    assert begun.index((1, 1)) < begun.index((2, 0)), "a promotion that is due comes before a new trial"


def test_who_holds_the_workers_hears_why_the_sweep_ends_and_may_say_it_better(setting: Setting) -> None:
    @contextmanager
    def hire() -> Iterator[Workers]:
        try:
            yield Workers(setting, {})
        except KeyboardInterrupt as error:
            raise StageFailed("the cluster is gone") from error

    def interrupted() -> None:
        with Runner(sweep=setting.sweep, setting=lambda: setting, hire=hire, heard=lambda result: None) as made:
            made.begin(first_batch(SECTION))
            raise KeyboardInterrupt

    with pytest.raises(StageFailed, match="the cluster is gone"):
        interrupted()
