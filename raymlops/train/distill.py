"""Distillation: a smaller model, the student, learns what a registered one answers (Hinton and others, 2015).

It learns from the rows of the newest batch run of its teacher, labelled or not; where there is none, from the window
that the teacher's kind is fitted on. The teacher answers them here, by the engine that scored the run, so these are the
run's answers. Real labels judge the student.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict

import numpy as np

from raymlops import registry
from raymlops.codec import digest
from raymlops.contract import Contract, encode
from raymlops.data import data_fingerprint, examples, latest_scores, read_contract, table
from raymlops.engine import predictor
from raymlops.errors import NotFound, StageFailed
from raymlops.plugins import build
from raymlops.spec import Spec
from raymlops.telemetry import say
from raymlops.train.loop import Runner, Workers
from raymlops.train.metrics import metric_for
from raymlops.train.register import Sweep, record, version_files
from raymlops.train.seeds import seed_of
from raymlops.train.sweep import Trial
from raymlops.train.trial import Setting
from raymlops.values import Examples, JsonValue, Version

__all__ = ["distil", "is_student"]

_MOST_ROWS = 1_000_000


def distil(spec: Spec, teacher: Version, trainer: JsonValue) -> Version:
    """Return the student of a teacher by a trainer, as a spec names one, made if there is none; alias `student`.

    A binary student learns probabilities, one of several classes the likeliest class, one of a number that number.
    It has the teacher's contract and profile, and is no champion by itself. Raise StageFailed when it cannot be fitted.
    """
    contract = read_contract(teacher.path)
    asked, on, run = _rows_of(spec, teacher)
    made = build("raymlops.train.trainers", trainer, where="optimize.distill")
    name = trainer if isinstance(trainer, str) else next(iter(dict(trainer)))  # type: ignore[arg-type]  # built above
    seed = seed_of(spec.train.seed, "student")
    sweep = Sweep(
        spec=spec,
        contract=contract,
        on=on or "all rows",
        validate=spec.train.validate_on,
        metric=metric_for(contract.label.task, spec.train.metric),
        data=digest([data_fingerprint(asked), teacher.digest, run]),
        alone=Trial(index=0, trainer=name, options=asdict(made), seed=seed, point={}),
    )
    say(f"train: a student of {teacher} by {name}, on {f'the rows of run {run}' if run else f'window {on!r}'}")
    return _fitted(sweep, teacher, lambda: _lesson(asked, teacher, contract, on=on), run)


def is_student(version: Version) -> bool:
    """Say whether a version's lineage names a teacher."""
    lineage = version.path / "lineage.json"
    return lineage.exists() and "teacher" in json.loads(lineage.read_bytes())


def _rows_of(spec: Spec, teacher: Version) -> tuple[Spec, str | None, str]:
    """Return where the rows are: a spec with their source, their window, and the batch run that held them, if any."""
    try:
        scores = latest_scores(teacher)
    except NotFound:
        return spec, spec.train.on, ""
    held = spec.model_copy(update={"data": spec.data.model_copy(update={"source": scores.input})})
    return held, scores.on, scores.run


def _lesson(spec: Spec, teacher: Version, contract: Contract, *, on: str | None) -> Examples:
    rows = table(spec, on=on, columns=contract.names)
    if rows.num_rows > _MOST_ROWS:
        rows = rows.take(np.linspace(0, rows.num_rows - 1, _MOST_ROWS).astype(np.int64))
    encoded = encode(contract, {name: rows.column(name) for name in contract.names})
    x = np.ascontiguousarray(encoded.x[encoded.ok])
    y = predictor(teacher).predict(x)
    return Examples(x=x, y=(y.argmax(axis=1) if y.ndim == 2 else y).astype(np.float64))


def _fitted(sweep: Sweep, teacher: Version, lesson: Callable[[], Examples], run: str) -> Version:
    trial, tracker = sweep.alone, sweep.tracker()
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
    record(tracker, result)
    reference = {name: (teacher.path / name).read_bytes() for name in ("contract.json", "profile.json")}
    origin: Mapping[str, JsonValue] = {"teacher": teacher.digest, "run": run}
    digest, path = registry.store_folder(version_files(sweep, result, reference, more=origin))
    tags = {"trainer": result.trainer, "sweep": sweep.id[:16], "teacher": str(teacher)}
    student = registry.register(
        teacher.name, digest=digest, path=path, run_id=next(iter(tracker.settle().values())), tags=tags
    )
    registry.tag_student(student)
    value = result.metrics[sweep.metric]
    say(f"train: {student} is the student of {teacher}, {sweep.metric} {value:.4f} on {sweep.validate!r}")
    return student


def _nobody() -> AbstractContextManager[Workers]:
    raise AssertionError("a single trial needs no workers")
