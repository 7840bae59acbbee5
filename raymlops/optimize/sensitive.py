"""Where int8 costs too much of the metric: leave the matrix products that suffer most in float32, as few as will do."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from raymlops.engine import compile_artefact, sensitivities
from raymlops.optimize.judge import Candidate
from raymlops.optimize.measure import Built, fall_of, load_engine
from raymlops.spec import Budget
from raymlops.telemetry import say
from raymlops.values import JsonValue

__all__ = ["with_products_spared"]


def with_products_spared(built: Sequence[Built], budget: Budget) -> list[Built]:
    """Return what was built, and for each int8 engine over `budget.error` one that keeps some products in float32.

    Which ones is found by quantizing each product alone (`engine.sensitivities`). Where no number of them holds the
    budget, the one that costs least stands in the table, with what it breaks.
    """
    return [_spared(one, budget) for one in built]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Try:
    """By how much the metric falls with these products in float32, and what was built with that engine beside."""

    kept: Sequence[str]
    fall: float
    built: Built


def _spared(one: Built, budget: Budget) -> Built:
    for candidate in one.candidates:
        if candidate.problem or candidate.options.get("precision") != "int8" or candidate.options.get("keep_float"):
            continue
        fall = fall_of(one, one.predictors[candidate.label])
        if fall <= budget.error or candidate.engine != "onnxruntime":
            continue
        told = f"optimize: {one.version} {candidate.label} falls by {fall:.2g}, over budget.error={budget.error:g}"
        least = min(
            _tries(one, candidate, budget), key=lambda tried: np.nan_to_num(tried.fall, nan=np.inf), default=None
        )
        if least is None:
            say(f"{told}; it has one matrix product, so none can stay in float32")
            continue
        holds = (
            "it keeps it" if least.fall <= budget.error else f"it still falls by {least.fall:.2g}, no others do better"
        )
        say(f"{told}; with {', '.join(least.kept)} in float32 {holds}")
        one = least.built
    return one


def _tries(one: Built, candidate: Candidate, budget: Budget) -> Iterator[_Try]:
    """Leave 1, 2, … of the products that suffer most in float32, until the budget is kept or one is left."""
    names = list(sensitivities(_graph(one, candidate), sample=one.sample, where=one.version.path, form="cpu"))
    for count in range(1, len(names)):
        spared = replace(candidate, options={**candidate.options, "keep_float": [*names[:count]]})
        predictor, size = load_engine(one.version, {spared.engine: dict(spared.options)}, one.sample)
        fall = fall_of(one, predictor)
        built = replace(
            one,
            candidates=(*(other for other in one.candidates if other != spared), spared),
            predictors={**one.predictors, spared.label: predictor},
            sizes={**one.sizes, spared.label: size},
        )
        yield _Try(kept=names[:count], fall=fall, built=built)
        if fall <= budget.error:
            return


def _graph(one: Built, candidate: Candidate) -> bytes:
    """Return the graph that is quantized, which may be a pruned one: what the engine builds in float32."""
    whole: JsonValue = {candidate.engine: {**candidate.options, "precision": "float32"}}
    return (compile_artefact(one.version, whole, one.sample) / "model.onnx").read_bytes()
