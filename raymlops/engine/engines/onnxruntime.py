"""ONNX Runtime on the CPU, in float32 or int8. Knows nothing of which version is in use or why."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from raymlops.engine.graph import check_weights, checked_graph, session
from raymlops.engine.prune import pruned
from raymlops.engine.quantize import quantized
from raymlops.errors import EngineError
from raymlops.protocols import Predictor
from raymlops.values import Float32

__all__ = ["Onnxruntime"]

_FILE = "model.onnx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Onnxruntime:
    """The version's ONNX graph; "int8" quantizes its matrix products, with ranges seen on the sample.

    Products named in ``keep_float`` are not quantized. ``prune`` leaves a share of the neurons or of the trees out.
    """

    precision: Literal["float32", "int8"] = "float32"
    keep_float: tuple[str, ...] = ()
    prune: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def gpus(self) -> float:
        """Return 0: it runs on the CPU."""
        return 0.0

    def compile(self, version: Path, artefact: Path, *, sample: Float32) -> None:
        """Write `model.onnx`; raise EngineError if the graph is not what ModelFormat promises or answers otherwise.

        The whole float32 graph must give the native answers on the sample. Precision "int8" needs at least one row and
        a model with matrix products: trees have none. `keep_float` needs "int8".
        """
        if self.keep_float and self.precision == "float32":
            raise EngineError(f"{version}: keep_float={self.keep_float!r} names what int8 spares; add precision: int8")
        graph = checked_graph(version, sample=sample)
        if self.prune:
            graph = pruned(graph, share=self.prune, sample=sample, where=version)
        if self.precision == "int8":
            graph = quantized(graph, sample=sample, where=version, form="cpu", keep=self.keep_float)
        (artefact / _FILE).write_bytes(graph)

    def load(self, version: Path, artefact: Path, *, threads: int) -> Predictor:
        """Return a session with at most `threads` threads a call; it may be asked by many threads at once.

        Raise EngineError, before any of it runs, for what is no graph and for weights in other files.
        """
        graph = (artefact / _FILE).read_bytes()
        check_weights(graph, version)
        return session(graph, version, threads=threads)
