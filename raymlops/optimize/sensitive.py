"""Where int8 costs too much of the metric: leave the matrix products that suffer most in float32, as few as will do."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from raymlops.engine import load_format, sensitivities
from raymlops.errors import EngineError
from raymlops.optimize.judge import Candidate
from raymlops.optimize.measure import Built, fall_of, load_engine
from raymlops.spec import Budget
from raymlops.telemetry import say

__all__ = ["with_products_spared"]


def with_products_spared(built: Sequence[Built], budget: Budget) -> list[Built]:
    """Return what was built, and for each int8 engine over `budget.error` one that keeps some products in float32.

    Which ones is found by quantizing each product alone (`engine.sensitivities`).
    """
    return [_spared(one, budget) for one in built]


def _spared(one: Built, budget: Budget) -> Built:
    for candidate in one.candidates:
        if candidate.problem or candidate.options.get("precision") != "int8" or candidate.options.get("keep_float"):
            continue
        fall = fall_of(one, one.predictors[candidate.label])
        if fall <= budget.error or candidate.engine != "onnxruntime":
            continue
        found = next(_tries(one, candidate, budget), None)
        if found is None:
            say(f"optimize: {one.version} {candidate.label} falls by {fall:.2g}, whichever products stay in float32")
            continue
        better, kept = found
        say(
            f"optimize: {one.version} {candidate.label} falls by {fall:.2g}, over budget.error={budget.error:g}; "
            f"with {', '.join(kept)} in float32 it keeps it"
        )
        one = better
    return one


def _tries(one: Built, candidate: Candidate, budget: Budget) -> Iterator[tuple[Built, list[str]]]:
    graph = load_format(one.version.path).to_onnx(one.version.path)
    try:
        names = list(sensitivities(graph, sample=one.sample, where=one.version.path, form="cpu"))
    except EngineError as error:
        say(f"optimize: {error}")
        return
    for count in range(1, len(names)):
        kept = names[:count]
        spared = replace(candidate, options={**candidate.options, "keep_float": [*kept]})
        predictor, size = load_engine(one.version, {spared.engine: dict(spared.options)}, one.sample)
        fall = fall_of(one, predictor)
        if np.isfinite(fall) and fall <= budget.error:
            yield (
                replace(
                    one,
                    candidates=(*one.candidates, spared),
                    predictors={**one.predictors, spared.label: predictor},
                    sizes={**one.sizes, spared.label: size},
                ),
                kept,
            )
