"""The laws of a trainer: equal arguments give equal bytes, its files load and answer, it learns what is there."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from raymlops.codec import dumps
from raymlops.plugins import build
from raymlops.protocols import ModelFormat, Trainer
from raymlops.values import Examples, Float32, Float64, Task

__all__ = ["check_trainer"]


def check_trainer(trainer: Trainer, train: Examples, valid: Examples, *, categories: Sequence[int], task: Task) -> None:
    """Raise AssertionError unless the trainer keeps every law on rows whose label it can learn."""
    assert isinstance(trainer, Trainer)
    classes = int(train.y.max()) + 1 if task != "regression" else 0

    def fit(seed: int, train: Examples = train) -> tuple[dict[str, bytes], Float32]:
        fitted = trainer.fit(train, valid, categories=categories, task=task, classes=classes, seed=seed, threads=1)
        model = {"format": fitted.format, "task": task, "classes": classes, "features": len(categories),
                 "categories": list(categories), "params": fitted.params}  # fmt: skip
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for file, data in {**fitted.files, "model.json": dumps(model)}.items():
                (folder / file).write_bytes(data)
            made: ModelFormat = build("raymlops.engine.formats", fitted.format, where="format")
            return fitted.files, made.load(folder, threads=1).predict(valid.x)

    files, answers = fit(seed=1)
    again, _ = fit(seed=1)
    assert files == again, "equal arguments give equal bytes"
    assert answers.dtype == np.float32, "answers are float32"
    assert answers.shape == ((len(valid.y), classes) if task == "multiclass" else (len(valid.y),)), "answers' shape"
    assert np.isfinite(answers).all(), "answers are finite, also where a feature is missing"
    assert not any(b"pickle" in data[:64] or data[:2] == b"\x80\x04" for data in files.values()), "nothing is pickled"
    assert _learned(answers, valid.y, task), "it learns"
    assert _learned(fit(seed=1, train=_with_lies(train, classes))[1], valid.y, task), "rows of weight 0 teach nothing"


def _learned(answers: Float32, y: Float64, task: Task) -> bool:
    if task == "regression":
        return bool(np.mean((answers - y) ** 2) < 0.6 * np.var(y))
    best = answers.argmax(axis=1) if task == "multiclass" else answers >= 0.5
    return bool(np.mean(best == y) > 1.2 * np.unique(y, return_counts=True)[1].max() / len(y))


def _with_lies(rows: Examples, classes: int) -> Examples:
    """Return the rows and, twice each, with a false label and no weight."""
    lie = (rows.y + 1) % classes if classes else rows.y.mean() - 3 * (rows.y - rows.y.mean())
    weight = np.repeat(np.array([3, 0, 0], np.float32), len(rows.y))
    return Examples(x=np.tile(rows.x, (3, 1)), y=np.concatenate([rows.y, lie, lie]), weight=weight)
