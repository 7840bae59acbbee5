"""A network as torch runs it, on the CPU or on a GPU by CUDA graphs. Knows nothing of other engines."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from raymlops.engine import cuda
from raymlops.engine.captured import captured
from raymlops.engine.formats.pytorch import read_module
from raymlops.engine.model import load_format, read_model
from raymlops.errors import EngineError
from raymlops.protocols import Predictor
from raymlops.values import Float32

__all__ = ["Pytorch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pytorch:
    """Torch on "cpu", or on "cuda" with a graph a batch size and a share ``gpu`` of one GPU; nothing is built."""

    device: Literal["cpu", "cuda"] = "cpu"
    gpu: Annotated[float, Field(gt=0, le=1)] = 1.0

    def gpus(self) -> float:
        """Return `gpu` on "cuda", else 0."""
        return self.gpu if self.device == "cuda" else 0.0

    def compile(self, version: Path, artefact: Path, *, sample: Float32) -> None:
        """Check that torch made the version, so that an engine which cannot answer is never chosen."""
        _check_format(version)
        if self.device == "cuda":
            cuda.require(f"{version}: engine pytorch on cuda")

    def load(self, version: Path, artefact: Path, *, threads: int) -> Predictor:
        """Return the network; on "cuda" every graph is captured now, and `threads` is not used."""
        _check_format(version)
        if self.device == "cpu":
            return load_format(version).load(version, threads=threads)
        where = f"{version}: engine pytorch on cuda"
        cuda.require(where)
        cuda.check_memory(self.gpu, where)
        model, module = read_model(version), read_module(version).to("cuda")
        return captured(lambda rows: module, features=model.features, answer_shape=model.answer_shape, where=where)


def _check_format(version: Path) -> None:
    name = read_model(version).format
    if name != "pytorch":
        raise EngineError(f"{version}: engine pytorch runs 'pytorch', this is {name!r}; use native or onnxruntime")
