"""Frozen words that every room shares. Knows nothing of files, Ray, MLflow or models."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

__all__ = [
    "UNREADABLE",
    "Coordinate",
    "Dimension",
    "Examples",
    "Float32",
    "Float64",
    "Group",
    "JsonValue",
    "Part",
    "Piece",
    "Renewal",
    "Task",
    "Told",
    "Version",
]

Float32: TypeAlias = npt.NDArray[np.float32]
Float64: TypeAlias = npt.NDArray[np.float64]
Task = Literal["binary", "multiclass", "regression"]
Coordinate: TypeAlias = float | int
Renewal = Literal["again", "adapt", "continue", "join"]  # of an older version

UNREADABLE = "_unreadable"  # the column of a source's rows that says where a row stands and why it is none


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One part of an input, the unit of work: a file, or ``parts`` of its row groups (of a partition its offsets, of a
    log its bytes) from number ``part`` on.

    ``fingerprint`` changes whenever what lies behind the piece is written again; ``rows`` is None where unknown.
    """

    source: str
    part: int
    parts: int = 1
    rows: int | None
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One file of output, whole on disk and seen by no reader before its run is committed."""

    name: str
    rows: int
    size_bytes: int
    sha256: str


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
class Dimension:
    """One direction of a search space: ``size`` values, in an order or without one, or, without a size, [0, 1)."""

    size: int | None = None
    ordered: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A point of a search space that was tried, and its loss: smaller is better, None where the trial failed.

    ``share`` is how much of a full trial it was given before it was stopped, 1 where it was not.
    """

    point: dict[str, Coordinate]
    loss: float | None
    share: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Encoded rows: ``x`` float32 [n, features], missing is NaN; ``y`` float64 [n], a class index or a target.

    ``weight`` [n], at least 0 and 1 in the mean, says how much each row counts in a fit; None: all the same.
    """

    x: Float32
    y: Float64
    weight: Float32 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Processes that make one fit together: this one's ``rank`` of ``size``, and an address of rank 0's machine.

    ``port`` was free when the group was formed, and is rank 0's to listen at.
    """

    rank: int
    size: int
    host: str
    port: int
