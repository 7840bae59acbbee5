"""Fit one configuration to rows, in folds where there are some, and write the model. Knows nothing of other trials."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from raymlops.codec import dumps, write_aside
from raymlops.contract import Contract
from raymlops.data import Fold
from raymlops.engine import load_format
from raymlops.protocols import Fitted, Trainer
from raymlops.train.metrics import all_metrics
from raymlops.train.seeds import seed_of
from raymlops.train.sweep import Trial, trainer_of
from raymlops.train.weights import ClassWeight, weighted
from raymlops.values import Examples, Float32, JsonValue

__all__ = ["Setting", "answers_of", "fit", "fit_trial", "kept_of", "write_model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What all trials of a sweep share: rows, contract, the sweep's folder, threads, and whether to stop early,
    and the share of a GPU that one needs.

    With ``folds`` of the rows a trial stops early by them, and is then fitted to all rows; ``valid`` only judges it.
    Where fits are spread, ``train`` is empty but in a worker, which has its share there (`train/spread.py`).
    """

    train: Examples
    valid: Examples
    contract: Contract
    sweep: Path
    threads: int
    stop_early: bool
    gpus: float = 0.0
    folds: Sequence[Fold] = ()
    class_weight: ClassWeight | None = None


def fit_trial(trial: Trial, setting: Setting) -> tuple[Fitted, list[dict[str, float]]]:
    """Return the model of all rows, and what each fold came to."""
    trainer, kept = trainer_of(trial), kept_of(setting.sweep, trial)
    if not setting.folds:
        valid = setting.valid if setting.stop_early else None
        return fit(trainer, setting.train, valid, setting, seed=trial.seed, kept=kept), []
    fits, judged = [], []
    for number, fold in enumerate(setting.folds):
        rows, held = (_taken(setting.train, indices) for indices in (fold.fit, fold.judge))
        seed = seed_of(trial.seed, "fold", number)
        stop = held if setting.stop_early else None
        made = fit(trainer, rows, stop, setting, seed=seed, kept=kept / f"fold-{number}")
        fits.append(made)
        with TemporaryDirectory(prefix="fold-") as name:
            write_model(Path(name), made, trial, setting.contract)
            answers = answers_of(Path(name), held, threads=setting.threads)
        judged.append(all_metrics(setting.contract.label.task, held.y, answers))
    whole = replace(trial, options=_joined([made.params for made in fits]), share=1.0)
    return fit(trainer_of(whole), setting.train, None, setting, seed=trial.seed, kept=kept / "whole"), judged


def kept_of(sweep: Path, trial: Trial) -> Path:
    """Return the folder in which it is kept how far the fit of a trial is, until the trial has ended."""
    return sweep / "kept" / f"{trial.index:05}-{trial.rung}{'-again' * trial.again}"


def fit(
    trainer: Trainer,
    rows: Examples,
    valid: Examples | None,
    setting: Setting,
    *,
    seed: int,
    kept: Path | None = None,
) -> Fitted:
    """Fit to rows with the weight of their class, from what is `kept` of the same fit."""
    contract = setting.contract
    return trainer.fit(
        weighted(rows, setting.class_weight, contract.label),
        valid,
        categories=contract.category_counts,
        task=contract.label.task,
        classes=len(contract.label.classes),
        seed=seed,
        threads=setting.threads,
        kept=kept,
    )


def _joined(params: Sequence[Mapping[str, JsonValue]]) -> dict[str, JsonValue]:
    """Return the parameters that the folds agree on; of lengths that each found for itself, the mean."""
    joined = dict(params[0])
    for name in joined:
        found = [one[name] for one in params]
        if any(one != found[0] for one in found):
            joined[name] = round(float(np.mean(np.array(found, dtype=np.float64))))
    return joined


def _taken(rows: Examples, indices: npt.NDArray[np.int64]) -> Examples:
    weight = None if rows.weight is None else rows.weight[indices]
    return Examples(x=np.ascontiguousarray(rows.x[indices]), y=rows.y[indices], weight=weight)


def write_model(folder: Path, fitted: Fitted, trial: Trial, contract: Contract) -> None:
    """Write a model as a version's folder has it: its own files and `model.json`."""
    label = contract.label
    model = {
        "format": fitted.format,
        "trainer": trial.trainer,
        "task": label.task,
        "classes": len(label.classes),
        "features": len(contract.features),
        "categories": list(contract.category_counts),
        "params": fitted.params,
        "seed": trial.seed,
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in {**fitted.files, "model.json": dumps(model, indent=True)}.items():
        write_aside(folder / name, data)


def answers_of(folder: Path, rows: Examples, *, threads: int) -> Float32:
    """Return what the model in a folder answers."""
    return load_format(folder).load(folder, threads=threads).predict(np.ascontiguousarray(rows.x))
