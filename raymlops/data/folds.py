"""Which rows of a window are fitted on and which are judged on, fold by fold, so that nothing leaks between them.

Pure; knows nothing of models. By key, rows of one group stay in one fold. By time, a fold is judged on rows that all
come after those it is fitted on (rolling origin; Tashman, 2000), with a gap between if labels are known late.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raymlops.data.moments import NO_MOMENT, microseconds
from raymlops.data.windows import row_hashes
from raymlops.errors import DataError
from raymlops.spec import FoldsSpec

__all__ = ["Fold", "columns_of_folds", "folds"]

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """Numbers of rows, ascending: those to fit on, and those to judge on and to stop early by."""

    fit: Indices
    judge: Indices


def columns_of_folds(spec: FoldsSpec, *, key: tuple[str, ...], time: str | None) -> tuple[str, ...]:
    """Return the columns that decide about folds; nothing when the whole row does."""
    if spec.by == "time":
        assert time is not None
        return (time,)
    return spec.group or key


def folds(spec: FoldsSpec, rows: pa.Table, y: npt.NDArray[np.float64], *, classes: int) -> tuple[Fold, ...]:
    """Return the folds of rows, given their deciding columns (`columns_of_folds`) and labels ``y`` [n].

    Raise DataError for a fold in which a side has no row, or, with ``classes`` above 0, only one class.
    """
    made = tuple(_by_time(spec, rows.column(0)) if spec.by == "time" else _by_group(spec, rows))
    for number, fold in enumerate(made):
        for side, indices in (("fit", fold.fit), ("judge", fold.judge)):
            if not len(indices):
                raise DataError(f"train.folds: fold {number} has no row to {side} on, of {len(y):,}; take fewer folds")
            if classes and len(np.unique(y[indices])) < 2:
                raise DataError(
                    f"train.folds: fold {number} has {len(indices):,} rows to {side} on and one class of the label "
                    "among them; take fewer folds"
                )
    return made


def _by_group(spec: FoldsSpec, rows: pa.Table) -> Iterator[Fold]:
    # Windows are the first bits of the same hash; the remainder knows nothing of them.
    of = row_hashes(rows) % np.uint64(spec.count)
    for number in range(spec.count):
        yield Fold(fit=np.flatnonzero(of != number), judge=np.flatnonzero(of == number))


def _by_time(spec: FoldsSpec, column: pa.ChunkedArray) -> Iterator[Fold]:
    """Cut the times into one more part than folds, as equal as rows of one moment allow; no time, no part."""
    times = microseconds(column)
    known = np.sort(times[times != NO_MOMENT])
    if not len(known):
        raise DataError("train.folds: no row has a time to order it by")
    starts = [known[len(known) * part // (spec.count + 1)] for part in range(1, spec.count + 1)]
    ends = [*starts[1:], known[-1] + 1]
    gap = round(spec.gap_days * 86_400e6)
    for start, end in zip(starts, ends, strict=True):
        yield Fold(
            fit=np.flatnonzero((times < start - gap) & (times >= known[0])),
            judge=np.flatnonzero((times >= start) & (times < end)),
        )
