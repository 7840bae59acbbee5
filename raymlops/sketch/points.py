"""Weighted points: a step function close to a cumulative distribution, of bounded size. Knows nothing of columns.

Up to 1,000 distinct numbers are kept exactly. Beyond, neighbours are joined into blocks of about equal weight, each
standing at its weighted median, and the largest rank that any block can be wrong by is counted: the error is known,
not estimated. The order-and-thin scheme is that of Munro and Paterson, Selection and Sorting with Limited Storage,
1980; the counted bound that of Manku, Rajagopalan and Lindsay, Approximate Medians and other Quantiles, 1998.

Not Apache DataSketches' KLL, which would be the ready-made choice: it draws unseeded random bits, so that equal rows
give other bytes each time, and a model version's digest could not be made again.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raymlops.values import Float64

__all__ = ["MOST", "Points", "join", "points"]

MOST = 1_000
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """``values`` ascending and distinct, ``weights`` how many numbers each stands for.

    ``error`` is the largest number of ranks by which the count at or below any point can be wrong.
    """

    values: Float64
    weights: Int64
    error: int


def points(numbers: Float64) -> Points:
    """Return the points of finite numbers, in any order.

    >>> points(np.array([3.0, 1.0, 3.0])).weights.tolist()
    [1, 2]
    """
    # Adding zero turns -0.0 into 0.0: equal numbers, one text.
    ordered = np.sort(numbers) + 0.0
    first = np.flatnonzero(np.diff(ordered, prepend=np.nan) != 0)
    return _thinned(ordered[first], np.diff(first, append=len(ordered)).astype(np.int64), 0)


def join(parts: Sequence[Points]) -> Points:
    """Return the points of all parts together; joining many at once errs less than one after the other."""
    if not parts:
        return points(np.zeros(0))
    values, where = np.unique(np.concatenate([part.values for part in parts]), return_inverse=True)
    weights = np.zeros(len(values), dtype=np.int64)
    np.add.at(weights, where, np.concatenate([part.weights for part in parts]))
    return _thinned(values, weights, sum(part.error for part in parts))


def _thinned(values: Float64, weights: Int64, error: int) -> Points:
    if len(values) <= MOST:
        return Points(values, weights, error)
    upto = np.cumsum(weights)
    # A point belongs to the block that the middle of its ranks falls into.
    block = ((2 * upto - weights) * MOST) // (2 * upto[-1])
    first = np.flatnonzero(np.diff(block, prepend=-1))
    start, stop = (upto - weights)[first], np.append(upto[first[1:] - 1], upto[-1])
    median = np.searchsorted(upto, start + (stop - start + 1) // 2)
    # Below its median a block is not counted yet, from there on it is counted whole.
    wrong = np.maximum((upto - weights)[median] - start, stop - upto[median])
    return Points(values[median], stop - start, error + int(wrong.max()))
