"""The labelled rows of a window, in shares of equal length that are read apart. Knows nothing of who reads one.

Which rows a share holds follows from the rows and the number of shares alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raymlops.contract import Contract, encode_label
from raymlops.data.rows import encoded_rows, parts, source
from raymlops.errors import DataError
from raymlops.spec import Spec
from raymlops.values import Examples, Piece

__all__ = ["Share", "labels_and_shares", "read_share"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Where the rows of a share lie: pieces, and from which to before which labelled row of the window in each."""

    window: str
    parts: Sequence[tuple[Piece, int, int]]


def labels_and_shares(
    spec: Spec, *, on: str, contract: Contract, count: int
) -> tuple[npt.NDArray[np.float64], tuple[Share, ...]]:
    """Return the labels of a window in the source's order, float64 [rows], and ``count`` shares of their rows.

    Only columns that decide are read, piece by piece. Raise DataError for fewer rows than shares.
    """
    label, labels, counts = contract.label.name, [], []
    pieces = source(spec).pieces()
    for piece in pieces:
        found = [
            encode_label(contract.label, part.column(label)) for part in _labelled(spec, piece, on, [label], label)
        ]
        counts.append(sum(map(len, found)))
        labels += found
    ends = np.cumsum([0, *counts])
    rows = int(ends[-1])
    if rows < count:
        raise DataError(f"data.windows.{on}: {rows} labelled rows, train.workers is {count}; each needs one at least")
    made = []
    for number in range(count):
        first, last = rows * number // count, rows * (number + 1) // count
        at = [(max(first, low) - low, min(last, low + n) - low) for low, n in zip(ends, counts, strict=False)]
        made.append(Share(window=on, parts=[(pieces[i], int(a), int(b)) for i, (a, b) in enumerate(at) if a < b]))
    return np.concatenate(labels), tuple(made)


def read_share(spec: Spec, share: Share, *, contract: Contract) -> Examples:
    """Return the rows of a share, encoded; those that break the contract are left out. Raise DataError for no row."""
    label, found = contract.label.name, []
    for piece, first, last in share.parts:
        seen = 0
        for part in _labelled(spec, piece, share.window, [*contract.names, label], label):
            inside = part.slice(max(first - seen, 0), max(min(last - seen, part.num_rows) - max(first - seen, 0), 0))
            if inside.num_rows:
                found.append(encoded_rows(inside, contract))
            seen += part.num_rows
            if seen >= last:
                break
    whole = Examples(
        x=np.concatenate([one.x for one in found] or [np.empty((0, len(contract.names)), np.float32)]),
        y=np.concatenate([one.y for one in found] or [np.empty(0)]),
    )
    if not len(whole.y):
        raise DataError(f"data.windows.{share.window}: no row of a worker's share keeps the contract; take fewer")
    return whole


def _labelled(spec: Spec, piece: Piece, on: str, columns: Sequence[str], label: str) -> Iterator[pa.Table]:
    """Yield the labelled rows of a piece that lie in a window."""
    for part in parts(spec, on=on, columns=columns, pieces=[piece]):
        yield part.filter(part.column(label).is_valid())
