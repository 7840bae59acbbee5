"""Trees as XGBoost runs them, on the CPU or by its own predictor on a GPU. Knows nothing of other engines."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from raymlops.engine import cuda
from raymlops.engine.formats.xgboost import read_booster
from raymlops.engine.model import load_format, read_model
from raymlops.errors import EngineError
from raymlops.protocols import Predictor
from raymlops.values import Float32

__all__ = ["Xgboost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Xgboost:
    """XGBoost on "cpu", or on "cuda" with a share ``gpu`` of one GPU; nothing is built."""

    device: Literal["cpu", "cuda"] = "cpu"
    gpu: Annotated[float, Field(gt=0, le=1)] = 1.0

    def gpus(self) -> float:
        """Return `gpu` on "cuda", else 0."""
        return self.gpu if self.device == "cuda" else 0.0

    def compile(self, version: Path, artefact: Path, *, sample: Float32) -> None:
        """Check that XGBoost made the version, so that an engine which cannot answer is never chosen."""
        _check_format(version)
        if self.device == "cuda":
            _check_device(version)

    def load(self, version: Path, artefact: Path, *, threads: int) -> Predictor:
        """Return the trees; on "cuda" the rows go there and the answers come back with every call."""
        _check_format(version)
        if self.device == "cpu":
            return load_format(version).load(version, threads=threads)
        _check_device(version)
        cuda.check_memory(self.gpu, f"{version}: engine xgboost on cuda")
        booster = read_booster(version)
        booster.set_param({"nthread": threads, "device": "cuda"})
        return _OnDevice(booster=booster, answer_shape=read_model(version).answer_shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class _OnDevice:
    """A matrix of XGBoost's own carries the rows: in-place prediction on a GPU needs cupy, which nothing else does."""

    booster: Any
    answer_shape: tuple[int, ...]

    def predict(self, x: Float32) -> Float32:
        import xgboost

        if not len(x):
            return np.empty((0, *self.answer_shape), dtype=np.float32)
        rows = xgboost.DMatrix(np.ascontiguousarray(x, dtype=np.float32), missing=np.nan)
        return np.asarray(self.booster.predict(rows), dtype=np.float32)


def _check_format(version: Path) -> None:
    name = read_model(version).format
    if name != "xgboost":
        raise EngineError(f"{version}: engine xgboost runs 'xgboost', this is {name!r}; use native or onnxruntime")


def _check_device(version: Path) -> None:
    """Refuse, where XGBoost itself would warn and answer on the CPU: a slower engine must not pass for one."""
    import xgboost

    cuda.require(f"{version}: engine xgboost on cuda")
    if not xgboost.build_info().get("USE_CUDA"):
        raise EngineError(f"{version}: engine xgboost on cuda needs XGBoost built with CUDA; install its own wheel")
