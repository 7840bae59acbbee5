"""Spread the trials of a sweep with Ray Tune. Knows nothing of models, metrics or MLflow."""

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig, TuneConfig

from raymlops.contract import Contract
from raymlops.train.sweep import Result, Trial
from raymlops.train.trial import run_trial
from raymlops.values import Examples

__all__ = ["run_trials"]


class _Runner(tune.Trainable):  # type: ignore[misc]
    """An actor that runs one trial after another: starting a process costs more than a small trial."""

    def setup(self, config: dict[str, Any], **given: Any) -> None:
        self.given = given
        self.config = config

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.config = new_config
        return True

    def step(self) -> dict[str, Any]:
        trial: Trial = self.given["trials"][self.config["position"]]
        given = {name: value for name, value in self.given.items() if name != "trials"}
        try:
            result = run_trial(trial, **given)
        except Exception as error:  # noqa: BLE001 - a process border: the cause goes to the driver as a value
            cause = f"{type(error).__name__}: {error}"
            result = Result(
                index=trial.index, trainer=trial.trainer, params=trial.options, metrics={}, seconds=0.0, cause=cause
            )
        return {"index": result.index, "cause": result.cause, "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing to save: a finished trial lies in its own folder."""


class _Told(Callback):  # type: ignore[misc]
    def __init__(self, ended: Callable[[int, str], None]) -> None:
        self.ended = ended

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if "index" in result:
            self.ended(int(result["index"]), str(result["cause"]))


def run_trials(
    trials: Sequence[Trial],
    *,
    train: Examples,
    valid: Examples,
    contract: Contract,
    sweep: Path,
    threads: int,
    stop_early: bool,
    ended: Callable[[int, str], None],
) -> None:
    """Run every trial on a CPU share of `threads`; call `ended(index, cause)` in the driver as each one ends."""
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    # Tune's new console prints a header on standard output, which is kept for results; the old one honours verbose=0.
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    runner = tune.with_parameters(
        _Runner,
        trials=list(trials),
        train=train,
        valid=valid,
        contract=contract,
        sweep=sweep,
        threads=threads,
        stop_early=stop_early,
    )
    tuner = tune.Tuner(
        tune.with_resources(runner, {"cpu": threads}),
        param_space={"position": tune.grid_search(list(range(len(trials))))},
        tune_config=TuneConfig(reuse_actors=True),
        run_config=RunConfig(
            name="tune",
            storage_path=str(sweep),
            verbose=0,
            callbacks=[_Told(ended)],
            failure_config=FailureConfig(max_failures=1),
            checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    tuner.fit()
