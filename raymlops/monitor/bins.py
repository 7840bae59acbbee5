"""Two profiles of a column as counts over the same bins. Knows nothing of distances or limits."""

import numpy as np

from raymlops.sketch import ColumnProfile
from raymlops.values import Float64

__all__ = ["category_counts", "number_counts", "obstacle"]


def obstacle(reference: ColumnProfile, current: ColumnProfile) -> str:
    """Return why two profiles cannot be compared, or nothing."""
    if reference.rows == 0 or current.rows == 0:
        return f"no rows in the {'reference' if reference.rows == 0 else 'period'}: nothing to compare"
    return ""


def category_counts(reference: ColumnProfile, current: ColumnProfile) -> tuple[Float64, Float64]:
    """Return counts of missing rows, of uncounted categories, then of every category that either side counts."""
    names = sorted({*reference.counts, *current.counts})
    first, second = (
        np.array([side.missing, side.other, *(side.counts.get(name, 0) for name in names)], dtype=np.float64)
        for side in (reference, current)
    )
    return first, second


def number_counts(reference: ColumnProfile, current: ColumnProfile, *, bins: int) -> tuple[Float64, Float64]:
    """Return counts between the reference's quantiles, then of missing rows.

    Repeated quantiles make one edge. Where the smallest number is such a one, numbers below it get a bin of their
    own: otherwise a constant column that falls would share its bin.
    """
    edges = np.unique(reference.quantiles(np.arange(1, bins) / bins))
    if len(edges) and edges[0] == reference.minimum:
        edges = np.concatenate([[np.nextafter(edges[0], -np.inf)], edges])
    # Without a number in the reference there is no edge: present or missing is all there is to compare.
    first, second = (
        np.append(np.diff(side.cdf(edges), prepend=0.0, append=1.0) * side.present, side.missing)
        for side in (reference, current)
    )
    return first, second
