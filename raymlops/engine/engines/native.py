"""The model as its own library runs it: nothing is built. Knows nothing of other engines."""

from dataclasses import dataclass
from pathlib import Path

from raymlops.engine.model import load_format
from raymlops.protocols import Predictor
from raymlops.values import Float32

__all__ = ["Native"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Native:
    """XGBoost runs its trees, torch its networks; what every other engine is compared with."""

    def gpus(self) -> float:
        """Return 0: it runs on the CPU."""
        return 0.0

    def compile(self, version: Path, artefact: Path, *, sample: Float32) -> None:
        """Check that the version has a known format; the artefact stays empty."""
        load_format(version)

    def load(self, version: Path, artefact: Path, *, threads: int) -> Predictor:
        """Return the version's own model; `artefact` is not read."""
        return load_format(version).load(version, threads=threads)
