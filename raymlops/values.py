"""Frozen words that every room shares. Knows nothing of files, Ray, MLflow or models."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

__all__ = ["Examples", "Float32", "Float64", "JsonValue", "Piece", "Task", "Version"]

Float32: TypeAlias = npt.NDArray[np.float32]
Float64: TypeAlias = npt.NDArray[np.float64]
Task = Literal["binary", "multiclass", "regression"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One part of an input that is read in one go: a file, a row group, a key range.

    ``fingerprint`` changes whenever the bytes behind the piece change, so equal pieces hold equal rows.
    """

    source: str
    part: int
    rows: int | None
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A registered version of a model; ``path`` is its content-addressed folder, ``digest`` the folder's sha256."""

    name: str
    number: int
    digest: str
    path: Path
    aliases: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}@{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Encoded rows: ``x`` float32 [n, features], missing is NaN; ``y`` float64 [n], a class index or a target."""

    x: Float32
    y: Float64
