"""A model that is an ONNX graph, `model.onnx`, whatever made it. Knows nothing of training."""

from dataclasses import dataclass
from pathlib import Path

from raymlops.engine.graph import check_graph, check_weights, session
from raymlops.errors import EngineError
from raymlops.protocols import Predictor

__all__ = ["Onnx"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Onnx:
    """Input `x` float32 [batch, features], output `y` as Predictor says, weights inside."""

    def load(self, folder: Path, *, threads: int) -> Predictor:
        """Return the graph as ONNX Runtime runs it on the CPU; raise EngineError for weights in other files."""
        graph = _read(folder)
        check_weights(graph, folder)
        return session(graph, folder, threads=threads)

    def to_onnx(self, folder: Path) -> bytes:
        """Return the graph; raise EngineError for another one than ModelFormat promises."""
        graph = _read(folder)
        check_graph(graph, folder)
        return graph


def _read(folder: Path) -> bytes:
    try:
        return (folder / "model.onnx").read_bytes()
    except FileNotFoundError as error:
        raise EngineError(f"{folder}: holds no model.onnx; restore it, or register the model again") from error
