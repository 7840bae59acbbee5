"""The chosen engine answers, its artefact is a cache that heals, and no other engine takes its place."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raymlops.engine import artefact_key, chosen, compile_artefact, predictor, size_bytes, write_choice
from raymlops.errors import EngineError, SpecError
from raymlops.values import JsonValue

ONNX: JsonValue = {"onnxruntime": {"precision": "float32"}}
INT8: JsonValue = {"onnxruntime": {"precision": "int8"}}


def test_without_a_choice_native_answers(trees: Any, home: Path) -> None:
    assert chosen(trees.version) == ("native", {})
    assert type(predictor(trees.version)).__name__ == "_InPlace"


def test_the_chosen_engine_answers(trees: Any, home: Path) -> None:
    path = write_choice(trees.version, "onnxruntime", "because")
    assert json.loads(path.read_bytes())["reason"] == "because"
    assert chosen(trees.version) == ("onnxruntime", {"precision": "float32", "keep_float": [], "prune": 0.0})
    assert type(predictor(trees.version)).__name__ == "_Session"


def test_a_choice_that_cannot_run_is_an_error_and_not_another_engine(trees: Any, home: Path) -> None:
    write_choice(trees.version, INT8, "a mistake")
    with pytest.raises(EngineError, match="nothing to quantize"):
        predictor(trees.version)
    path = home / "engines" / trees.version.digest / "choice.json"
    path.write_text(json.dumps({"engine": "onxruntime", "options": {}}))
    with pytest.raises(EngineError, match="did you mean 'onnxruntime'"):
        predictor(trees.version)
    path.write_text("half a fi")
    with pytest.raises(EngineError, match="is not a choice of an engine"):
        predictor(trees.version)


def test_an_unknown_engine_cannot_be_chosen(trees: Any, home: Path) -> None:
    with pytest.raises(SpecError, match="unknown kind 'tensorflow'"):
        write_choice(trees.version, "tensorflow", "because")


def test_an_artefact_is_reused_and_says_what_it_was_built_from(trees: Any, home: Path) -> None:
    first = compile_artefact(trees.version, ONNX, trees.sample)
    stamp = (first / "model.onnx").stat().st_mtime_ns
    assert compile_artefact(trees.version, "onnxruntime", trees.sample) == first
    assert (first / "model.onnx").stat().st_mtime_ns == stamp
    built = json.loads((first / "built.json").read_bytes())
    assert built["engine"] == "onnxruntime"
    assert built["options"] == {"precision": "float32", "keep_float": [], "prune": 0.0}
    assert built["source"] == trees.version.digest
    assert set(built["files"]) == {"model.onnx"}
    assert {"onnxruntime", "xgboost", "numpy"} <= set(built["packages"])
    assert size_bytes(trees.version, first) == (first / "model.onnx").stat().st_size


def test_other_options_are_another_artefact(trees: Any) -> None:
    keys = {artefact_key(trees.version, "onnxruntime", {"precision": name}) for name in ("float32", "int8")}
    assert len(keys | {artefact_key(trees.version, "native", {})}) == 3


@pytest.mark.parametrize("damage", ["changed", "lost", "half"])
def test_a_damaged_artefact_is_built_again(damage: str, trees: Any, home: Path) -> None:
    folder = compile_artefact(trees.version, ONNX, trees.sample)
    sound = (folder / "model.onnx").read_bytes()
    if damage == "changed":
        (folder / "model.onnx").write_bytes(sound[:-4] + b"abcd")
    elif damage == "lost":
        (folder / "model.onnx").unlink()
    else:
        (folder / "built.json").unlink()
    assert compile_artefact(trees.version, ONNX, trees.sample) == folder
    assert (folder / "model.onnx").read_bytes() == sound
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".")] == []


def test_builders_at_once_leave_one_artefact(trees: Any, home: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: compile_artefact(trees.version, ONNX, trees.sample), range(4)))
    assert len(set(made)) == 1
    assert sorted(path.name for path in made[0].parent.iterdir()) == sorted([made[0].name, "sample.npy"])


def test_an_engine_that_fails_leaves_nothing_behind(trees: Any, home: Path) -> None:
    with pytest.raises(EngineError):
        compile_artefact(trees.version, INT8, trees.sample)
    assert [path.name for path in (home / "engines" / trees.version.digest).iterdir()] == ["sample.npy"]


def test_a_lost_int8_artefact_is_built_again_from_the_kept_sample(network: Any, home: Path) -> None:
    folder = compile_artefact(network.version, INT8, network.sample)
    before = (folder / "model.onnx").read_bytes()
    write_choice(network.version, INT8, "because")
    for path in folder.iterdir():
        path.unlink()
    predictor(network.version)
    assert (folder / "model.onnx").read_bytes() == before


def test_the_kept_sample_is_spread_over_the_rows(trees: Any, home: Path) -> None:
    rows = np.repeat(np.arange(5000, dtype=np.float32)[:, None], 5, axis=1)
    folder = compile_artefact(trees.version, "native", rows)
    kept = np.load(folder.parent / "sample.npy")
    assert kept.shape == (1024, 5)
    assert (kept[0, 0], kept[-1, 0]) == (0, 4999)
