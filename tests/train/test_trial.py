"""A trial's folder appears whole or not at all, and what a crash of the machine left half written runs again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from raymlops.contract import Contract, Feature, Label
from raymlops.train import Trial
from raymlops.train.fit import Setting
from raymlops.train.trial import read_result, read_results, run_trial, trial_folder, try_trial
from raymlops.values import Examples

TRIAL = Trial(index=3, trainer="xgboost", options={"rounds": 2, "max_depth": 2}, seed=1, point={})


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    x = np.random.default_rng(0).normal(size=(300, 1)).astype(np.float32)
    examples = Examples(x=x, y=(x[:, 0] > 0).astype(np.float64))
    contract = Contract(
        features=(Feature(name="x", type="number", nullable=False),),
        label=Label(name="y", task="binary", classes=("0", "1")),
    )
    return Setting(train=examples, valid=examples, contract=contract, sweep=tmp_path, threads=1, stop_early=True)


def test_a_trial_is_read_back_as_it_ended(setting: Setting) -> None:
    assert read_result(setting.sweep, 3) is None
    assert run_trial(TRIAL, setting) == read_result(setting.sweep, 3)
    assert [path.name for path in (setting.sweep / "trials").iterdir()] == ["00003"]


def test_the_results_so_far_are_those_of_every_rung(setting: Setting) -> None:
    made = [run_trial(replace(TRIAL, index=index, rung=rung), setting) for index, rung in ((1, 0), (3, 0), (3, 1))]
    assert read_results(setting.sweep, 5) == made
    assert read_results(setting.sweep, 3) == made[:1]


@pytest.mark.parametrize("left", [b"", b'{"index": 3', b'{"index": 3}'])
def test_a_result_that_was_half_written_runs_again(setting: Setting, left: bytes) -> None:
    run_trial(TRIAL, setting)
    (trial_folder(setting.sweep, 3) / "result.json").write_bytes(left)
    assert read_result(setting.sweep, 3) is None
    assert run_trial(TRIAL, setting) == read_result(setting.sweep, 3)


def test_the_second_of_two_attempts_keeps_what_the_first_one_made(setting: Setting) -> None:
    first = run_trial(TRIAL, setting)
    run_trial(TRIAL, setting)
    assert read_result(setting.sweep, 3) == first
    assert [path.name for path in (setting.sweep / "trials").iterdir()] == ["00003"]


def test_a_trial_that_fails_says_why_and_leaves_nothing(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("raymlops.train.trial.write_aside", full)
    assert "No space left on device" in try_trial(TRIAL, setting).cause
    assert not list((setting.sweep / "trials").iterdir())
