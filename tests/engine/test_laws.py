"""Every kind of engine keeps the laws for every family of models and every task."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raymlops.engine.engines.onnxruntime import Onnxruntime
from raymlops.errors import EngineError
from raymlops.plugins import build, kind_names
from raymlops.testing.engine_laws import check_engine, check_predictor
from raymlops.values import Float32

# TensorRT answers on a GPU alone: tests/engine/test_tensorrt.py.
NAMES = [name for name in kind_names("raymlops.engine.engines") if name != "tensorrt"]
KINDS = {name: build("raymlops.engine.engines", name, where="test") for name in NAMES}
TREES = {name: kind for name, kind in KINDS.items() if name != "pytorch"}
NETWORKS = {name: kind for name, kind in KINDS.items() if name != "xgboost"}


@pytest.mark.parametrize("engine", TREES.values(), ids=TREES)
def test_engines_keep_the_laws_for_trees(engine: Any, trees: Any) -> None:
    check_engine(engine, trees.folder, trees.sample)


@pytest.mark.parametrize("engine", [*NETWORKS.values(), Onnxruntime(precision="int8")], ids=[*NETWORKS, "int8"])
def test_engines_keep_the_laws_for_networks(engine: Any, network: Any) -> None:
    check_engine(engine, network.folder, network.sample)


def test_trees_cannot_be_quantized_and_the_error_says_why(trees: Any, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no matrix product, trees compare and add"):
        Onnxruntime(precision="int8").compile(trees.folder, tmp_path, sample=trees.sample)
    assert list(tmp_path.iterdir()) == []


@dataclass(frozen=True, slots=True, kw_only=True)
class _Broken:
    """A predictor that breaks one law."""

    law: str
    buffer: Float32

    def predict(self, x: Float32) -> Float32:
        y = np.nan_to_num(x[:, 0]).astype(np.float32)
        if self.law == "split":
            return y - y.mean() if len(y) else y
        if self.law == "finite":
            return x[:, 0].copy()
        if self.law == "type":
            return y.astype(np.float64)
        if self.law == "shape":
            return np.stack([y, y], axis=1)
        if self.law == "empty":
            return y if len(y) else np.empty((0, 2), np.float32)
        if self.law == "input":
            x[np.isnan(x)] = 0
            return y
        self.buffer[: len(y)] = y
        return self.buffer[: len(y)] if len(y) else y


@pytest.mark.parametrize("law", ["split", "finite", "type", "shape", "empty", "input", "buffer"])
def test_the_laws_find_what_breaks_them(law: str) -> None:
    sample = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
    sample[3, 0] = np.nan
    with pytest.raises(AssertionError):
        check_predictor(_Broken(law=law, buffer=np.zeros(16, np.float32)), sample)
