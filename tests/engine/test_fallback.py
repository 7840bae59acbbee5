"""Another engine answers only where one is named, and then its caller is told why."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raymlops.engine import answering, predictor, write_choice
from raymlops.engine.cuda import capability
from raymlops.errors import EngineError, MissingExtra
from raymlops.values import JsonValue

ON_GPU: tuple[str, dict[str, JsonValue]] = ("xgboost", {"device": "cuda"})


def _is_here() -> bool:
    try:
        return bool(capability("test"))
    except EngineError:
        return False


pytestmark = pytest.mark.skipif(_is_here(), reason="a GPU is here, so the engine that must fail would answer")


def test_the_first_engine_that_can_answers_and_each_that_could_not_is_told_of_in_order(trees: Any, home: Path) -> None:
    told: list[tuple[str, str]] = []
    made = answering(
        trees.version,
        engine=ON_GPU,
        fallback=["pytorch", "onnxruntime", "native"],
        on_fallback=lambda engine, reason: told.append((engine, str(reason))),
    )
    assert (made.engine, made.options["precision"]) == ("onnxruntime", "float32")
    assert [engine for engine, _ in told] == ["xgboost", "pytorch"]
    assert "needs a CUDA GPU" in told[0][1]
    assert "engine pytorch runs 'pytorch'" in told[1][1]
    alone = predictor(trees.version, engine=("onnxruntime", {}))
    assert np.array_equal(made.predictor.predict(trees.sample), alone.predict(trees.sample))


def test_an_engine_that_can_answer_is_not_passed_over(trees: Any, home: Path) -> None:
    write_choice(trees.version, "onnxruntime", "because")
    told: list[str] = []
    made = answering(trees.version, fallback=["native"], on_fallback=lambda engine, reason: told.append(engine))
    assert made.engine == "onnxruntime"
    assert told == []


def test_without_a_fallback_the_engine_itself_says_why(trees: Any, home: Path) -> None:
    told: list[str] = []
    with pytest.raises(EngineError, match="needs a CUDA GPU"):
        answering(trees.version, engine=ON_GPU, on_fallback=lambda engine, reason: told.append(engine))
    assert told == []
    with pytest.raises(MissingExtra, match="is not installed"):
        answering(trees.version, engine=("tensorrt", {"module": "tensorrt"}))


def test_when_none_can_every_reason_is_given_and_the_last_is_no_fallback(trees: Any, home: Path) -> None:
    told: list[str] = []
    with pytest.raises(EngineError) as caught:
        answering(
            trees.version,
            engine=ON_GPU,
            fallback=["pytorch", "onxruntime"],
            on_fallback=lambda engine, reason: told.append(engine),
        )
    assert told == ["xgboost", "pytorch"]
    first, *reasons = caught.value.problems
    assert first == f"{trees.version}: no engine can run it"
    assert [word in reason for word, reason in zip(("CUDA", "pytorch", "did you mean"), reasons, strict=True)] == [
        True
    ] * 3


def test_a_choice_that_cannot_be_read_is_an_error_and_no_reason_to_fall_back(trees: Any, home: Path) -> None:
    path = write_choice(trees.version, "onnxruntime", "because")
    path.write_text("half a fi")
    with pytest.raises(EngineError, match="is not a choice of an engine"):
        answering(trees.version, fallback=["native"])


def test_what_cannot_be_built_is_a_reason_too(trees: Any, home: Path) -> None:
    write_choice(trees.version, {"onnxruntime": "int8"}, "a mistake")
    told: list[str] = []
    made = answering(trees.version, fallback=["native"], on_fallback=lambda engine, reason: told.append(str(reason)))
    assert (made.engine, made.options) == ("native", {})
    assert ["nothing to quantize" in reason for reason in told] == [True]
