"""Distillation: a smaller model, the student, learns what a registered one answers (Hinton and others, 2015).

It learns from the newest batch run of its teacher: rows, labelled or not, and answers, which meet by the contract's
key; without a key the teacher answers the rows again. Where there is no run, it answers those of `train.on`. Labels
judge the student.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa

from raymlops import registry
from raymlops.codec import digest
from raymlops.contract import Contract, answer_schema, encode
from raymlops.data import (
    ScoreManifest,
    data_manifest,
    examples,
    latest_scores,
    match,
    read_answers,
    read_contract,
    table,
)
from raymlops.engine import predictor
from raymlops.errors import DataError, NotFound, StageFailed
from raymlops.plugins import build
from raymlops.spec import Spec
from raymlops.telemetry import say
from raymlops.train.fit import Setting
from raymlops.train.loop import Runner, Workers
from raymlops.train.metrics import metric_for
from raymlops.train.register import Sweep, register_one
from raymlops.train.seeds import seed_of
from raymlops.train.sweep import Trial
from raymlops.values import Examples, Float32, JsonValue, Version

__all__ = ["distil", "is_student"]

_MOST_ROWS = 1_000_000


def distil(spec: Spec, teacher: Version, trainer: JsonValue) -> Version:
    """Return the student of a teacher by a trainer, as a spec names one, made if there is none; alias `student`.

    A binary student learns probabilities, one of several classes the likeliest class, one of a number that number.
    It has the teacher's contract and profile, and is no champion by itself. Raise StageFailed when it cannot be fitted.
    """
    contract = read_contract(teacher.path)
    book = _book(spec, teacher, contract)
    made = build("raymlops.train.trainers", trainer, where="optimize.distill")
    name = trainer if isinstance(trainer, str) else next(iter(dict(trainer)))  # type: ignore[arg-type]  # built above
    seed, manifest = seed_of(spec.train.seed, "student"), data_manifest(book.spec)
    sweep = Sweep(
        spec=spec,
        contract=contract,
        on=book.on or "all rows",
        validate=spec.train.validate_on,
        metric=metric_for(contract.label.task, spec.train.metric),
        data=digest([manifest["digest"], teacher.digest, book.run]),
        manifest=manifest,
        origin=registry.origin(),
        alone=Trial(index=0, trainer=name, options=asdict(made), seed=seed, point={}),
    )
    say(f"train: a student of {teacher} by {name}, on {book}")
    return _fitted(sweep, teacher, lambda: _lesson(book, teacher, contract), book.run)


def is_student(version: Version) -> bool:
    """Say whether a version's lineage names a teacher."""
    lineage = version.path / "lineage.json"
    return lineage.exists() and "teacher" in json.loads(lineage.read_bytes())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Book:
    """Where a student's rows are: a spec with their source, their window, and the run that answered them, if any.

    ``key``: the columns by which rows and answers meet.
    """

    spec: Spec
    on: str | None
    key: tuple[str, ...] = ()
    scores: ScoreManifest | None = None

    @property
    def run(self) -> str:
        return self.scores.run if self.scores else ""

    def __str__(self) -> str:
        if self.scores is None:
            return f"window {self.on!r}, which its teacher answers now, having no batch run"
        return f"the rows of run {self.run}{'' if self.key else ', which its teacher answers again: data.key is empty'}"


def _book(spec: Spec, teacher: Version, contract: Contract) -> _Book:
    try:
        scores = latest_scores(teacher)
    except NotFound:
        return _Book(spec=spec, on=spec.train.on)
    held = spec.model_copy(update={"data": spec.data.model_copy(update={"source": scores.input})})
    return _Book(spec=held, on=scores.on, key=contract.key, scores=scores)


def _lesson(book: _Book, teacher: Version, contract: Contract) -> Examples:
    rows, told = table(book.spec, on=book.on, columns=list(dict.fromkeys([*book.key, *contract.names]))), None
    if book.scores and book.key:
        rows, told = _answered(rows, book.scores, contract)
    spread = np.unique(np.linspace(0, rows.num_rows - 1, min(rows.num_rows, _MOST_ROWS)).astype(np.int64))
    rows = rows.take(spread)
    encoded = encode(contract, {name: rows.column(name) for name in contract.names})
    x = np.ascontiguousarray(encoded.x[encoded.ok])
    y = predictor(teacher).predict(x) if told is None else told[spread][encoded.ok]
    return Examples(x=x, y=(y.argmax(axis=1) if y.ndim == 2 else y).astype(np.float64))


def _answered(rows: pa.Table, scores: ScoreManifest, contract: Contract) -> tuple[pa.Table, Float32]:
    """Return the rows that a run answered, and the answers as a predictor gives them."""
    names = [name for name, kind in answer_schema(contract.label) if kind == pa.float32()]
    told = read_answers(scores, columns=[*contract.key, *names])
    where = match(rows, told, by=contract.key)
    found = np.flatnonzero(where >= 0)
    if not len(found):
        raise DataError(
            f"run {scores.run}: no row of its input has the key ({', '.join(contract.key)}) of an answer; score again"
        )
    columns = [np.asarray(told.column(name).take(where[found]), dtype=np.float32) for name in names]
    return rows.take(found), columns[0] if len(columns) == 1 else np.column_stack(columns)


def _fitted(sweep: Sweep, teacher: Version, lesson: Callable[[], Examples], run: str) -> Version:
    trial = sweep.alone
    assert trial is not None

    def setting() -> Setting:
        return Setting(
            train=lesson(),
            valid=examples(sweep.spec, on=sweep.validate, contract=sweep.contract),
            contract=sweep.contract,
            sweep=sweep.folder,
            threads=sweep.spec.train.cpus_per_trial,
            stop_early=True,
        )

    with Runner(sweep=sweep.folder, setting=setting, hire=_nobody, heard=lambda result: None) as runner:
        (result,) = runner.run([trial])
    if result.cause or sweep.metric not in result.metrics:
        raise StageFailed(f"train: the student of {teacher} cannot be judged: {result.cause or 'no ' + sweep.metric}")
    reference = {name: (teacher.path / name).read_bytes() for name in ("contract.json", "profile.json")}
    origin: Mapping[str, JsonValue] = {"teacher": teacher.digest, "run": run}
    student = register_one(sweep, result, reference, more=origin, tags={"teacher": str(teacher)})
    registry.tag_student(student)
    value = result.metrics[sweep.metric]
    say(f"train: {student} is the student of {teacher}, {sweep.metric} {value:.4f} on {sweep.validate!r}")
    return student


def _nobody() -> AbstractContextManager[Workers]:
    raise AssertionError("a single trial needs no workers")
