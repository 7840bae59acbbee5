"""Build the engines of a version and measure them. Knows nothing of budgets or of what is written.

The ranges of a quantized engine come from rows of `train.on`, the metric from all rows of `train.validate`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from raymlops.contract import Contract
from raymlops.data import examples, read_contract
from raymlops.engine import compile_artefact, size_bytes
from raymlops.engine.choice import build_engine
from raymlops.errors import DataError, NotFound, RaymlopsError
from raymlops.optimize.judge import Candidate, Latency, Reading
from raymlops.optimize.latency import asking, latencies
from raymlops.protocols import Predictor
from raymlops.spec import Spec
from raymlops.stats import metric_value
from raymlops.telemetry import progress, say
from raymlops.train import higher_is_better
from raymlops.values import Examples, Float32, JsonValue, Version

__all__ = ["Built", "build_all", "fall_of", "load_engine", "measure", "metric_of"]

_ALSO_ROWS = 256
_SAMPLE_ROWS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A version, the ``sample`` that its engines are calibrated with, and a predictor for each that could be built.

    ``rows`` are those that judge it, ``expected`` native's answers to them, ``reference`` the metric that may not fall:
    that of native, of a student that of its teacher.
    """

    version: Version
    metric: str
    sample: Float32
    rows: Examples
    expected: Float32
    reference: float
    candidates: tuple[Candidate, ...]
    predictors: Mapping[str, Predictor]
    sizes: Mapping[str, int]


def build_all(spec: Spec, versions: Sequence[Version], *, student: Version | None = None) -> list[Built]:
    """Build every engine of `optimize.engines` for each version; one that cannot be built carries the reason.

    The ``student`` among them is judged against the first version, its teacher, by the teacher's metric.
    """
    made: list[Built] = []
    seen: dict[Contract, tuple[Examples, Examples]] = {}
    with progress("optimize", total=len(versions) * len(spec.optimize.engines), unit="engines") as advance:
        for version in versions:
            contract = read_contract(version.path)
            if contract not in seen:
                rows = examples(spec, on=spec.train.validate_on, contract=contract)
                seen[contract] = rows, examples(spec, on=spec.train.on, contract=contract, limit=_SAMPLE_ROWS)
            teacher = made[0] if version is student else None
            made.append(_built(spec, version, *seen[contract], advance, teacher))
    return made


def measure(built: Sequence[Built], *, rows: int) -> list[Candidate]:
    """Return every candidate of every version with its reading, in the order of the spec.

    All are timed side by side, at 1, 256 and ``rows`` rows a call. Raise DataError where the metric is undefined.
    """
    times: dict[tuple[str, str], dict[int, Latency]] = {
        (str(one.version), label): {} for one in built for label in one.predictors
    }
    for size in sorted({1, _ALSO_ROWS, rows}):
        say(f"optimize: timing {len(times)} engines at {size:,} row{'s' if size > 1 else ''} a call")
        for key, seconds in _timed(built, size).items():
            p50, p99 = np.quantile(seconds, [0.5, 0.99]) * 1e3
            times[key][size] = Latency(p50_ms=float(p50), p99_ms=float(p99))
    return [
        candidate if candidate.problem else _read(one, candidate, times[str(one.version), candidate.label])
        for one in built
        for candidate in one.candidates
    ]


def fall_of(one: Built, predictor: Predictor) -> float:
    """Return by how much the metric is worse than the reference on the validation window, 0 if it is no worse."""
    return _fall(one, predictor.predict(one.rows.x))[1]


def load_engine(version: Version, engine: JsonValue, sample: Float32) -> tuple[Predictor, int]:
    """Return an engine of a version, single thread, and the bytes that it needs."""
    artefact = compile_artefact(version, engine, sample)
    _, _, made = build_engine(engine, where="engine")
    return made.load(version.path, artefact, threads=1), size_bytes(version, artefact)


def metric_of(version: Version) -> str:
    """Return the metric that judged the version when it was trained."""
    try:
        return str(json.loads((version.path / "evaluation.json").read_bytes())["metric"])
    except FileNotFoundError as error:
        raise NotFound(f"{version}: its folder {version.path} holds no evaluation.json; train it again") from error


def _built(
    spec: Spec,
    version: Version,
    rows: Examples,
    sample: Examples,
    advance: Callable[[int, str], None],
    teacher: Built | None,
) -> Built:
    native, _ = load_engine(version, "native", sample.x)
    candidates, predictors, sizes = [], {}, {}
    for index, value in enumerate(spec.optimize.engines):
        name, options, _ = build_engine(value, where=f"optimize.engines.{index}")
        candidate = Candidate(version=str(version), engine=name, options=options)
        try:
            predictors[candidate.label], sizes[candidate.label] = load_engine(version, {name: options}, sample.x)
        except (RaymlopsError, RuntimeError, ValueError, OSError, ImportError) as error:
            candidate = replace(candidate, problem=str(error) or repr(error))
        candidates.append(candidate)
        advance(1, f"{version} {candidate.label}{': cannot be built' if candidate.problem else ''}")
    metric, expected = teacher.metric if teacher else metric_of(version), native.predict(rows.x)
    own = metric_value(metric, rows.y, expected)
    if not np.isfinite(own):
        raise DataError(f"optimize: {metric} is undefined on the {len(rows.y):,} rows of the validation window")
    return Built(
        version=version,
        metric=metric,
        reference=teacher.reference if teacher else own,
        sample=sample.x,
        rows=rows,
        expected=expected,
        candidates=tuple(candidates),
        predictors=predictors,
        sizes=sizes,
    )


def _timed(built: Sequence[Built], size: int) -> dict[tuple[str, str], np.ndarray]:
    calls: dict[tuple[str, str], Callable[[], object]] = {}
    for one in built:
        for label, made in one.predictors.items():
            calls[str(one.version), label] = asking(made.predict, one.rows.x, rows=size)
    taken = latencies({f"{number}": call for number, call in enumerate(calls.values())})
    return dict(zip(calls, taken.values(), strict=True))


def _read(one: Built, candidate: Candidate, latency: Mapping[int, Latency]) -> Candidate:
    answers = one.predictors[candidate.label].predict(one.rows.x)
    value, fall = _fall(one, answers)
    reading = Reading(
        value=value,
        fall=fall,
        difference=float(np.abs(answers - one.expected).max()),
        latency=latency,
        size_bytes=one.sizes[candidate.label],
    )
    return replace(candidate, reading=reading)


def _fall(one: Built, answers: Float32) -> tuple[float, float]:
    """Return the metric of answers, and by how much it is worse than the reference."""
    value = metric_value(one.metric, one.rows.y, answers)
    fall = one.reference - value if higher_is_better(one.metric) else value - one.reference
    return value, float(np.maximum(fall, 0.0))
