"""Spread the trials of a sweep with Ray Tune. Knows nothing of models, metrics or MLflow."""

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

from ray import tune
from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig, TuneConfig

from raymlops.train.sweep import Trial
from raymlops.train.trial import Setting, try_trial

__all__ = ["run_trials"]


class _Runner(tune.Trainable):  # type: ignore[misc]
    """An actor that runs one trial after another: starting a process costs more than a small trial."""

    def setup(self, config: dict[str, Any], trials: Sequence[Trial], setting: Setting) -> None:
        self.config, self.trials, self.setting = config, trials, setting

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.config = new_config
        return True

    def step(self) -> dict[str, Any]:
        result = try_trial(self.trials[self.config["position"]], self.setting)
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


def run_trials(trials: Sequence[Trial], setting: Setting, *, ended: Callable[[int, str], None]) -> None:
    """Run every trial on `setting.threads` CPUs; call `ended(index, cause)` in the driver as each one ends."""
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    # Tune's new console prints a header on standard output, which is kept for results; the old one honours verbose=0.
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    runner = tune.with_parameters(_Runner, trials=list(trials), setting=setting)
    tuner = tune.Tuner(
        tune.with_resources(runner, {"cpu": setting.threads}),
        param_space={"position": tune.grid_search(list(range(len(trials))))},
        tune_config=TuneConfig(reuse_actors=True),
        run_config=RunConfig(
            name="tune",
            storage_path=str(setting.sweep),
            verbose=0,
            callbacks=[_Told(ended)],
            failure_config=FailureConfig(max_failures=1),
            checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    tuner.fit()
