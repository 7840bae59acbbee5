"""One engine for small requests, another for large ones, where both give the same answers. Knows no engine by name.

A row's answer may then depend on how many rows are asked with it, by at most 1e-6 of the largest answer (or of 1, if
that is larger); requests of the same number of rows have the same bits. So it is tried only where a spec names it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field

from raymlops.engine.edges import edge_rows
from raymlops.engine.graph import largest_difference
from raymlops.engine.model import load_format, read_model
from raymlops.errors import EngineError, SpecError
from raymlops.plugins import build
from raymlops.protocols import Engine, Predictor
from raymlops.values import Float32, JsonValue

__all__ = ["BySize"]

_LARGEST_DIFFERENCE = 1e-6
_FOLDERS = ("small", "large")


def _checked(value: JsonValue) -> JsonValue:
    """Refuse an inner engine where the outer one is read, and not first where it is built."""
    try:
        _made(value)
    except SpecError as error:
        raise ValueError(str(error)) from error
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class BySize:
    """``small`` answers fewer than ``rows`` rows, ``large`` the rest; both are engines as a spec names them."""

    small: Annotated[JsonValue, AfterValidator(_checked)] = "onnxruntime"
    large: Annotated[JsonValue, AfterValidator(_checked)] = "native"
    rows: Annotated[int, Field(ge=2, le=65_536)] = 128

    def gpus(self) -> float:
        """Return what the more demanding of the two needs: both live in one process, on one device."""
        return max(_made(self.small).gpus(), _made(self.large).gpus())

    def compile(self, version: Path, artefact: Path, *, sample: Float32) -> None:
        """Build both; raise EngineError unless they agree on the sample and on and beside every threshold of trees.

        "Agree" is by 1e-6 of the largest answer, or of 1 if that is larger, also where values are missing.
        """
        for name, engine in zip(_FOLDERS, self._engines(), strict=True):
            (artefact / name).mkdir()
            engine.compile(version, artefact / name, sample=sample)
        rows = np.vstack([sample, edge_rows(load_format(version).to_onnx(version), read_model(version).features)])
        small, large = (made.predict(rows) for made in self._loaded(version, artefact, threads=1))
        difference = largest_difference(small, large)
        if not difference <= _LARGEST_DIFFERENCE:
            raise EngineError(
                f"{version}: {self.small!r} and {self.large!r} differ by {difference:.2g} of the scale, at most "
                f"{_LARGEST_DIFFERENCE:g} is allowed where the size of a request decides; use one of them"
            )

    def load(self, version: Path, artefact: Path, *, threads: int) -> Predictor:
        """Return both behind one `predict`."""
        small, large = self._loaded(version, artefact, threads=threads)
        return _BySize(small=small, large=large, rows=self.rows)

    def _engines(self) -> tuple[Engine, Engine]:
        return _made(self.small), _made(self.large)

    def _loaded(self, version: Path, artefact: Path, *, threads: int) -> list[Predictor]:
        named = zip(_FOLDERS, self._engines(), strict=True)
        return [engine.load(version, artefact / name, threads=threads) for name, engine in named]


@dataclass(frozen=True, slots=True, kw_only=True)
class _BySize:
    small: Predictor
    large: Predictor
    rows: int

    def predict(self, x: Float32) -> Float32:
        return (self.small if len(x) < self.rows else self.large).predict(x)


def _made(value: JsonValue) -> Engine:
    made: Engine = build("raymlops.engine.engines", value, where="by_size")
    return made
