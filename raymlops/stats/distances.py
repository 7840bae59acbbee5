"""Distances between distributions, from counts and from cumulative shares."""

import numpy as np

from raymlops.values import Float64

__all__ = ["ks_distance", "psi", "total_variation"]


def psi(reference: Float64, current: Float64) -> float:
    """Return the population stability index of two count vectors over the same bins, 0 for equal shares.

    Sum of (q - p) ln(q / p), Siddiqi, Credit Risk Scorecards, 2006, section 6. Below 0.1 is read as stable, above
    0.2 as drift. Symmetric. A side without counts gives 0: there is nothing to compare.

    >>> psi(np.array([50.0, 50.0]), np.array([500.0, 500.0]))
    0.0
    """
    pooled = reference + current
    kept = pooled > 0
    if reference.sum() == 0 or current.sum() == 0:
        return 0.0
    # Half a count per bin, spread as both sides together are (a Dirichlet prior): an empty bin must not make the
    # logarithm infinite, and a rare bin that a small sample misses must not look like a shift.
    prior = 0.5 * kept.sum() * pooled[kept] / pooled.sum()
    p = (reference[kept] + prior) / (reference.sum() + prior.sum())
    q = (current[kept] + prior) / (current.sum() + prior.sum())
    return float(np.sum((q - p) * np.log(q / p)))


def ks_distance(reference: Float64, current: Float64) -> float:
    """Return the largest difference of two cumulative distributions at the same points, between 0 and 1.

    >>> ks_distance(np.array([0.0, 0.5, 1.0]), np.array([0.5, 0.75, 1.0]))
    0.5
    """
    return float(np.max(np.abs(reference - current), initial=0.0))


def total_variation(reference: Float64, current: Float64) -> float:
    """Return the share of rows that would have to change their bin, between 0 and 1; 0 where a side is empty.

    Half the sum of |q - p| over the shares of two count vectors over the same bins.

    >>> total_variation(np.array([9.0, 1.0]), np.array([50.0, 50.0]))
    0.4
    """
    if reference.sum() == 0 or current.sum() == 0:
        return 0.0
    shares = np.abs(current / current.sum() - reference / reference.sum())
    return min(1.0, float(shares.sum()) / 2)
