"""The optimize stage: build, measure, choose, write. Knows nothing of Ray; it runs where it is called."""

from collections.abc import Callable, Mapping, Sequence

from raymlops import registry
from raymlops.codec import dumps, write_aside
from raymlops.data import prepare
from raymlops.engine import write_choice
from raymlops.errors import SpecError, StageFailed
from raymlops.optimize.judge import Candidate, broken, choose, gains, reason, runners_up
from raymlops.optimize.measure import build_all, measure, metric_of
from raymlops.optimize.sensitive import with_products_spared
from raymlops.optimize.table import show
from raymlops.spec import Spec, home
from raymlops.telemetry import say
from raymlops.train import distil, is_student
from raymlops.values import JsonValue, Version

__all__ = ["run"]


def run(spec: Spec, *, model: str | None = None, may_commit: Callable[[], None] = lambda: None) -> dict[str, JsonValue]:
    """Measure every engine of `optimize.engines` for a version, the champion by default, and write which one answers.

    The newest sweep's best version of each other trainer is measured beside it and gets a choice of its own. So does
    its student, if `optimize.distill` names a trainer; that may not be worse than its teacher by more than the budget,
    and what it gains within it is said. A version that is a student itself gets none.
    Raise StageFailed, with every candidate's reason, when no engine of the version asked for keeps the budget.
    """
    if not spec.optimize.engines:
        raise SpecError("optimize.engines: is empty; name at least `native`")
    prepare(spec)
    asked = registry.resolve(model or f"{spec.name}@champion")
    student = _student(spec, asked)
    others = [*registry.finalists(asked.name), *([student] if student else [])]
    versions = [asked, *(one for one in others if one.digest != asked.digest)]
    say(f"optimize: {', '.join(map(str, versions))}, judged on window {spec.train.validate_on!r}")
    built = with_products_spared(build_all(spec, versions, student=student), spec.optimize.budget)
    candidates = measure(built, rows=spec.optimize.rows)
    best = {
        version: choose(_of(version, candidates), spec.optimize.budget, rows=spec.optimize.rows) for version in versions
    }
    chosen = {(one.version, one.label) for one in best.values() if one is not None}
    show(candidates, chosen, spec.optimize.budget, metric=metric_of(asked), student=student)
    if best[asked] is None:
        raise StageFailed(
            f"optimize: no engine of {asked} keeps the budget; raise optimize.budget or name other engines",
            *(f"  {one.label}: {broken(one, spec.optimize.budget)}" for one in _of(asked, candidates)),
        )
    may_commit()
    return _written(spec, asked, candidates, best, _taught(spec, student, asked, best) if student else None)


def _student(spec: Spec, teacher: Version) -> Version | None:
    if spec.optimize.distill is None:
        return None
    if is_student(teacher):
        say(f"optimize: {teacher} is a student itself and gets none; name its teacher with --model")
        return None
    return distil(spec, teacher, spec.optimize.distill)


def _taught(
    spec: Spec, student: Version, teacher: Version, best: Mapping[Version, Candidate | None]
) -> dict[str, JsonValue]:
    """Return what the student came to beside its teacher, and say it."""
    mine, theirs = best[student], best[teacher]
    assert theirs is not None
    found = gains(mine, theirs, rows=spec.optimize.rows) if mine else ""
    if found:
        say(f"optimize: the student {student} beats its teacher {teacher} within the budget: {found}")
    return {"model": str(student), "within_budget": mine is not None, "gains": found}


def _of(version: Version, candidates: Sequence[Candidate]) -> list[Candidate]:
    return [one for one in candidates if one.version == str(version)]


def _written(
    spec: Spec,
    asked: Version,
    candidates: Sequence[Candidate],
    best: Mapping[Version, Candidate | None],
    student: dict[str, JsonValue] | None,
) -> dict[str, JsonValue]:
    """Write the choice of each version that has one, and what led to it."""
    choices: dict[str, JsonValue] = {}
    paths, reasons = {}, {}
    for version, one in best.items():
        if one is None:
            say(f"optimize: no engine of {version} keeps the budget; what answers for it stays as it is")
            continue
        native = next((other for other in _of(version, candidates) if other.engine == "native"), None)
        why = reason(one, native, spec.optimize.budget, rows=spec.optimize.rows)
        after = runners_up(_of(version, candidates), one, spec.optimize.budget, rows=spec.optimize.rows)
        others: list[JsonValue] = [{other.engine: dict(other.options)} for other in after]
        paths[version] = write_choice(version, {one.engine: dict(one.options)}, why, fallback=others)
        reasons[version] = why
        choices[str(version)] = {"engine": one.engine, "options": dict(one.options), "reason": why}
        say(f"optimize: {version} is answered by {one.label}: {why}")
    table: list[JsonValue] = [
        {**one.to_json(), "verdict": "chosen" if one in best.values() else broken(one, spec.optimize.budget) or "kept"}
        for one in candidates
    ]
    path = home() / "optimize" / asked.name / f"{asked.digest}.json"
    document = {
        "model": str(asked),
        "digest": asked.digest,
        "on": spec.train.validate_on,
        "metric": metric_of(asked),
        "budget": spec.optimize.budget.model_dump(),
        "rows": spec.optimize.rows,
        "choices": choices,
        "student": student,
        "table": table,
    }
    write_aside(path, dumps(document, indent=True))
    mine = best[asked]
    assert mine is not None
    return {
        "model": str(asked),
        "choice": {mine.engine: dict(mine.options)},
        "reason": reasons[asked],
        "student": student,
        "table": table,
        "outputs": [str(path), str(paths[asked])],
    }
