"""Run one trial and keep what it made in a folder of its own. Knows nothing of Ray, MLflow or the other trials."""

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from uuid import uuid4

import orjson

from raymlops.codec import dumps, write_aside
from raymlops.protocols import Fitted
from raymlops.train.fit import Setting, answers_of, fit_trial, kept_of, write_model
from raymlops.train.metrics import all_metrics
from raymlops.train.sweep import Result, Trial

__all__ = [
    "failed",
    "keep_failure",
    "keep_model",
    "read_result",
    "read_results",
    "run_trial",
    "sweep_of",
    "trial_folder",
    "try_trial",
]

_RESULT = "result.json"


def trial_folder(sweep: Path, index: int, rung: int = 0) -> Path:
    """Return where the files of a trial, or of a rung of it above the first, lie."""
    return sweep / "trials" / (f"{index:05}-{rung}" if rung else f"{index:05}")


def sweep_of(sweep: Path, trial: Trial) -> Path:
    """Return the folder in which the files of a trial lie as those of its sweep."""
    return sweep / "again" if trial.again else sweep


def run_trial(trial: Trial, setting: Setting) -> Result:
    """Fit, judge the saved files on the validation rows, and rename the finished folder into place.

    The answers come from the files as they will be loaded later, not from the model in memory.
    """
    start = time.perf_counter()
    fitted, folds = fit_trial(trial, setting)
    return keep_model(trial, fitted, setting, folds=folds, seconds=time.perf_counter() - start)


def keep_model(
    trial: Trial,
    fitted: Fitted,
    setting: Setting,
    *,
    folds: Sequence[Mapping[str, float]] = (),
    seconds: float = 0.0,
) -> Result:
    """Judge what was fitted by its saved files, and rename the finished folder into place."""
    start = time.perf_counter()
    folder = trial_folder(sweep_of(setting.sweep, trial), trial.index, trial.rung)
    aside = folder.with_name(f".{folder.name}.{uuid4().hex[:8]}")
    try:
        write_model(aside, fitted, trial, setting.contract)
        answers = answers_of(aside, setting.valid, threads=setting.threads)
        result = Result(
            index=trial.index,
            trainer=trial.trainer,
            options=trial.options,
            seed=trial.seed,
            params=fitted.params,
            seconds=seconds + time.perf_counter() - start,
            metrics=all_metrics(setting.contract.label.task, setting.valid.y, answers),
            rung=trial.rung,
            share=trial.share,
            folds=folds,
        )
        write_aside(aside / _RESULT, dumps(asdict(result), indent=True))
        _settle(aside, folder)
        shutil.rmtree(kept_of(setting.sweep, trial), ignore_errors=True)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return result


def try_trial(trial: Trial, setting: Setting) -> Result:
    """Run a trial; an error becomes the cause in its result, so that the other trials go on."""
    try:
        return run_trial(trial, setting)
    except Exception as error:  # noqa: BLE001 - the border of a trial: the cause is passed on as a value and shown
        return failed(trial, error)


def failed(trial: Trial, error: Exception) -> Result:
    """Return an error as the result of a trial."""
    return _failed(trial, f"{type(error).__name__}: {error}", lasting=not isinstance(error, OSError | MemoryError))


def keep_failure(trial: Trial, setting: Setting, cause: str) -> Result:
    """Write that a trial failed for good, and return that as its result: a sweep that goes on is told the same."""
    result = _failed(trial, cause, lasting=True)
    folder = trial_folder(sweep_of(setting.sweep, trial), trial.index, trial.rung)
    folder.mkdir(parents=True, exist_ok=True)
    write_aside(folder / _RESULT, dumps(asdict(result), indent=True))
    shutil.rmtree(kept_of(setting.sweep, trial), ignore_errors=True)
    return result


def read_result(sweep: Path, index: int, rung: int = 0) -> Result | None:
    """Return how a trial ended, None while it has not, or where its result cannot be read: then it runs again."""
    return _read(trial_folder(sweep, index, rung))


def read_results(sweep: Path, trials: int) -> list[Result]:
    """Return how trials of the sweep have ended so far, on each rung that they came to, in trial order."""
    found = []
    for index in range(trials):
        rung = 0
        while (result := read_result(sweep, index, rung)) is not None:
            found.append(result)
            rung += 1
    return found


def _read(folder: Path) -> Result | None:
    try:
        return Result(**orjson.loads((folder / _RESULT).read_bytes()))
    except (FileNotFoundError, orjson.JSONDecodeError, TypeError):
        return None


def _failed(trial: Trial, cause: str, *, lasting: bool) -> Result:
    return Result(
        index=trial.index,
        trainer=trial.trainer,
        options=trial.options,
        seed=trial.seed,
        params=trial.options,
        metrics={},
        seconds=0.0,
        cause=cause,
        lasting=lasting,
        rung=trial.rung,
        share=trial.share,
    )


def _settle(aside: Path, folder: Path) -> None:
    """Rename the finished folder into place, over what a crash of the machine left half written."""
    try:
        os.rename(aside, folder)
    except OSError:
        # Another attempt finished the same trial first; equal arguments gave it equal files.
        if _read(folder) is not None:
            return
        shutil.rmtree(folder)
        os.rename(aside, folder)
