"""A model that is an ONNX graph, `model.onnx`, whatever made it. Knows nothing of training."""

from dataclasses import dataclass
from pathlib import Path

from raymlops.engine.graph import check_graph, session
from raymlops.errors import EngineError
from raymlops.protocols import Predictor

__all__ = ["Onnx"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Onnx:
    """Input `x` float32 [batch, features], output `y` as Predictor says, weights inside."""

    def load(self, folder: Path, *, threads: int) -> Predictor:
        """Return the graph as ONNX Runtime runs it on the CPU; raise EngineError for another graph."""
        return session(self.to_onnx(folder), folder, threads=threads)

    def to_onnx(self, folder: Path) -> bytes:
        """Return the graph."""
        try:
            graph = (folder / "model.onnx").read_bytes()
        except FileNotFoundError as error:
            raise EngineError(f"{folder}: holds no model.onnx; restore it, or register the model again") from error
        check_graph(graph, folder)
        return graph
