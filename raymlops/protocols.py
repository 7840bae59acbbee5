"""The joints: what a kind must be able to do. They take values, never the object that owns them.

A kind is a frozen dataclass in a plural folder; its fields are its options in the YAML. `raymlops.testing` holds
the laws that every kind of a joint passes. A joint stands here only when two kinds of it exist.

Rows travel as float32 [n, features] in the order of the contract, C-contiguous, missing as NaN and categories as
their index: into XGBoost numpy is 3 to 4 times faster than Arrow for one row, about twice for 256 and equal within a
tenth for tables (benchmarks/engine.py), and XGBoost, torch and onnxruntime all take it without a copy.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import pyarrow as pa

from raymlops.sketch import ColumnProfile
from raymlops.values import Coordinate, Dimension, Examples, Float32, Group, JsonValue, Part, Piece, Task, Told

__all__ = [
    "Continues",
    "Drift",
    "DriftTest",
    "Engine",
    "Fitted",
    "ModelFormat",
    "Predictor",
    "Search",
    "Sink",
    "Source",
    "Spreads",
    "Stream",
    "Trainer",
]


@runtime_checkable
class Source(Protocol):
    """Rows to read, in pieces that can be read apart, anywhere, and again."""

    def schema(self) -> pa.Schema:
        """Return names and types of the columns; raise DataError where pieces disagree or nothing is found."""
        ...

    def pieces(self) -> Sequence[Piece]:
        """Return the pieces in a fixed order; together they hold every row once."""
        ...

    def read(self, piece: Piece, *, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the rows of a piece in their order, a bounded number at a time.

        What stands where a row should and is none (a message that is not JSON) is a row of nulls; a further column,
        `values.UNREADABLE`, then says where it stands and why it is none. It is null for the other rows, and need not
        be there. Raise DataError when the piece changed since it was listed, or while it is read, or cannot be read.
        """
        ...


@runtime_checkable
class Stream(Protocol):
    """A source that goes on growing. Cut to what is there now it is an ordinary source, which says where it ends."""

    def identity(self) -> str:
        """Return what names the stream to one who has read a part of it, however it is reached and cut."""
        ...

    def since(self, last: JsonValue | None) -> Sequence[JsonValue]:
        """Return the sources, as a spec names them, of the rows that are there now and came after those of `last`.

        They are to be read in this order, each holds every row of its range, and `last` is an earlier one of them, or
        None where nothing was read yet. None of them means that nothing is new. Raise DataError where rows that came
        after `last` are gone.
        """
        ...


@runtime_checkable
class Sink(Protocol):
    """Where rows go: workers write parts, apart and again; one commit shows all of them to readers, or none."""

    def write(self, tables: Iterable[pa.Table], *, run: str, name: str) -> Sequence[Part]:
        """Write tables of one schema as durable parts that no reader sees yet; the same call makes the same parts.

        `run` and `name` tell runs and the parts of a run apart. Raise StageFailed when they cannot be written.
        """
        ...

    def commit(self, *, run: str, parts: Sequence[Part], manifest: bytes) -> bool:
        """Show the parts to readers, all at once, with a JSON manifest; False if the run was committed before.

        Parts of the run that are not named are removed. Raise StageFailed, and show nothing, when one is not there.
        """
        ...

    def source(self, run: str) -> JsonValue:
        """Return the source, as a spec names it, that reads back the rows of a committed run."""
        ...


@runtime_checkable
class Predictor(Protocol):
    """A model ready to answer."""

    def predict(self, x: Float32) -> Float32:
        """Answer x [n, features] with [n] (binary: P(class 1); regression: value) or [n, classes] (multiclass)."""
        ...


@runtime_checkable
class ModelFormat(Protocol):
    """How one family of models lies in a version's folder, beside its `model.json`."""

    def load(self, folder: Path, *, threads: int) -> Predictor:
        """Return the model as its own library runs it."""
        ...

    def to_onnx(self, folder: Path) -> bytes:
        """Return an ONNX model: input `x` float32 [batch, features]; output `y`, shaped as Predictor says."""
        ...


@runtime_checkable
class Engine(Protocol):
    """A way to run a model. An artefact is a cache: it can always be compiled again from the version's folder."""

    def gpus(self) -> float:
        """Return the share of one GPU that a process needs to load it: 0 for none, at most 1."""
        ...

    def compile(self, version: Path, artefact: Path, *, sample: Float32) -> None:
        """Build into the empty folder `artefact`; `sample` [n, features] calibrates a quantized engine."""
        ...

    def load(self, version: Path, artefact: Path, *, threads: int) -> Predictor:
        """Return a predictor from what `compile` built."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What a trainer made: files for the version's folder, its format, and parameters that make it again.

    ``params`` are the trainer's options with every value that was found during the fit (rounds, epochs) pinned.
    """

    format: str
    files: dict[str, bytes]
    params: dict[str, JsonValue]


@runtime_checkable
class Trainer(Protocol):
    """One family of models; its fields are its hyperparameters, and what a search space may name."""

    def fit(
        self,
        train: Examples,
        valid: Examples | None,
        *,
        categories: Sequence[int],
        task: Task,
        classes: int,
        seed: int,
        threads: int,
        kept: Path | None = None,
    ) -> Fitted:
        """Fit. `categories[j]` is the number of categories of feature j, 0 if it is a number.

        `valid` is used to stop early; without it the fit runs the full length that the options give. A row of `train`
        counts by its weight, so one of weight 0 teaches nothing. Equal arguments give equal bytes. A fit that takes
        long may keep how far it is in the folder `kept`, there or not, and go on from what is there: to the same bytes.
        """
        ...

    def gpus(self) -> float:
        """Return the share of one GPU that a fit needs: 0 for none, at most 1."""
        ...

    def code(self) -> str:
        """Return a digest of the user's code that a fit runs, nothing where it runs none."""
        ...

    def shortened(self, share: float) -> "Trainer":
        """Return the trainer with a share, in (0, 1], of its full length. Raise SpecError if it has no length."""
        ...


@runtime_checkable
class Continues(Protocol):
    """A trainer that can go on from a model it has made."""

    def proceed(
        self,
        start: Path,
        train: Examples,
        *,
        categories: Sequence[int],
        task: Task,
        classes: int,
        seed: int,
        threads: int,
    ) -> Fitted:
        """Return the model in the folder `start` after it has learned some more rows; those it knew it keeps.

        `params` of what comes back make no model by themselves. Equal arguments give equal bytes.
        """
        ...


@runtime_checkable
class Spreads(Protocol):
    """A trainer of which several processes can make one fit together, each with a share of the rows."""

    def joined(self, group: Group) -> AbstractContextManager[None]:
        """Join the other processes: while it is held, `fit` is a part of the fit that all of them make.

        Each then calls it with its own rows as `train`, all rows of `valid`, and what else is the same, and gets the
        same model, that of the rows of all. Equal arguments in each process give equal bytes. A process in which one
        raises is of no more use, nor are the others: whoever started them ends them.
        """
        ...


@runtime_checkable
class Search(Protocol):
    """A way to choose the points of a space that are tried."""

    def looks_back(self) -> bool:
        """Return whether what came of earlier points decides about later ones."""
        ...

    def propose(
        self, space: Mapping[str, Dimension], told: Sequence[Told], *, start: int, count: int, seed: int
    ) -> Sequence[dict[str, Coordinate]]:
        """Return points number `start` to `start + count` of the search; fewer where the space holds no more.

        `told` are the points before `start`, in their order, if the search looks back; else it may be empty. Equal
        arguments give equal points. Raise SpecError for a space that cannot be searched so.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """The outcome of one test on one column: ``distance`` in the test's unit, and whether it is over ``limit``."""

    test: str
    distance: float
    limit: float
    drifted: bool
    note: str = ""


@runtime_checkable
class DriftTest(Protocol):
    """A distance between the profile of a reference and the profile of what comes in now."""

    def compare(self, reference: ColumnProfile, current: ColumnProfile) -> Drift:
        """Return a finite distance for every pair of profiles, also empty, constant and all-null ones."""
        ...
