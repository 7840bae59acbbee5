"""The laws of a trainer: equal arguments give equal bytes, its files load and answer, it learns what is there.

And of one whose fit spreads over processes: together they make one model, of the rows of all.
"""

import multiprocessing
import socket
import tempfile
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raymlops.codec import dumps
from raymlops.plugins import build
from raymlops.protocols import Fitted, ModelFormat, Spreads, Trainer
from raymlops.values import Examples, Float32, Float64, Group, Task

__all__ = ["check_spread", "check_trainer"]

_TOGETHER_S = 120.0  # for processes that make a small fit


def check_trainer(trainer: Trainer, train: Examples, valid: Examples, *, categories: Sequence[int], task: Task) -> None:
    """Raise AssertionError unless the trainer keeps every law on rows whose label it can learn."""
    assert isinstance(trainer, Trainer)
    case = _Case(trainer=trainer, valid=valid, categories=tuple(categories), task=task, classes=_classes(train, task))
    fitted = case.fit(train)
    answers = case.answers(fitted)
    assert case.fit(train).files == fitted.files, "equal arguments give equal bytes"
    with tempfile.TemporaryDirectory() as name:
        kept = case.fit(train, kept=Path(name, "kept"))
    assert kept.files == fitted.files, "what is kept on the way changes nothing"
    assert answers.dtype == np.float32, "answers are float32"
    shape = (len(valid.y), case.classes) if task == "multiclass" else (len(valid.y),)
    assert answers.shape == shape, "answers' shape"
    assert np.isfinite(answers).all(), "answers are finite, also where a feature is missing"
    pickled = [data for data in fitted.files.values() if b"pickle" in data[:64] or data[:2] == b"\x80\x04"]
    assert not pickled, "nothing is pickled"
    assert _learned(answers, valid.y, task), "it learns"
    lies = case.fit(_with_lies(train, case.classes))
    assert _learned(case.answers(lies), valid.y, task), "rows of weight 0 teach nothing"


def check_spread(trainer: Trainer, train: Examples, valid: Examples, *, categories: Sequence[int], task: Task) -> None:
    """Raise AssertionError unless processes that join make one model of all their rows, whose labels lie apart.

    So of each process's rows alone it could not be learned.
    """
    assert isinstance(trainer, Spreads)
    case = _Case(trainer=trainer, valid=valid, categories=tuple(categories), task=task, classes=_classes(train, task))
    order = np.argsort(train.y, kind="stable")
    sides = [Examples(x=np.ascontiguousarray(train.x[part]), y=train.y[part]) for part in np.array_split(order, 2)]
    with closing(_together(case, sides)) as fits:
        one, other = next(fits)
        assert one == other, "each process gets the same model"
        assert next(fits) == [one, one], "equal arguments in each process give equal bytes"
    assert _learned(case.answers(one), valid.y, task), "they learn from the rows of all"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """What all fits of a check have in common; ``valid`` stops them, and judges their answers."""

    trainer: Trainer
    valid: Examples
    categories: tuple[int, ...]
    task: Task
    classes: int

    def fit(self, train: Examples, group: Group | None = None, *, kept: Path | None = None) -> Fitted:
        """Fit, in a group if there is one."""
        with self.trainer.joined(group) if group and isinstance(self.trainer, Spreads) else nullcontext():
            return self.trainer.fit(
                train,
                self.valid,
                categories=self.categories,
                task=self.task,
                classes=self.classes,
                seed=1,
                threads=1,
                kept=kept,
            )

    def answers(self, fitted: Fitted) -> Float32:
        """Return what the model says of the rows of ``valid`` when it is loaded from its files."""
        model = {"format": fitted.format, "task": self.task, "classes": self.classes, "params": fitted.params,
                 "features": len(self.categories), "categories": list(self.categories)}  # fmt: skip
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for file, data in {**fitted.files, "model.json": dumps(model)}.items():
                (folder / file).write_bytes(data)
            made: ModelFormat = build("raymlops.engine.formats", fitted.format, where="format")
            return made.load(folder, threads=1).predict(self.valid.x)


def _classes(train: Examples, task: Task) -> int:
    return int(train.y.max()) + 1 if task != "regression" else 0


def _together(case: _Case, sides: Sequence[Examples]) -> Generator[list[Fitted], None, None]:
    """Yield what a process for each side comes to, again and again in the same processes."""
    with ProcessPoolExecutor(len(sides), mp_context=multiprocessing.get_context("spawn")) as processes:
        while True:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            groups = [Group(rank=rank, size=len(sides), host="127.0.0.1", port=port) for rank in range(len(sides))]
            waited = [processes.submit(case.fit, *each) for each in zip(sides, groups, strict=True)]
            yield [one.result(timeout=_TOGETHER_S) for one in waited]


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
