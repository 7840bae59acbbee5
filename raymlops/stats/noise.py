"""How far two samples of one distribution drift apart by chance. Knows nothing of columns or models.

Each function returns a distance that samples of `n` and `m` rows exceed in at most the share `alpha` of comparisons
when nothing has changed. Distances below it are not evidence of anything.
"""

import math

import numpy as np

from raymlops.values import Float64

__all__ = ["ks_noise", "psi_noise", "total_variation_noise"]


def psi_noise(bins: int, n: int, m: int, *, alpha: float) -> float:
    """Return the PSI that chance exceeds: a chi-squared of bins - 1 degrees, times 1/n + 1/m.

    Yurdakul, Statistical Properties of Population Stability Index, 2018, section 3; asymptotic, inf without rows.

    >>> round(psi_noise(10, 100, 100, alpha=0.05), 3)
    0.338
    """
    if min(n, m) == 0:
        return math.inf
    if bins < 2:
        return 0.0
    from scipy.special import chdtri

    return float(chdtri(bins - 1, alpha)) * (1 / n + 1 / m)


def ks_noise(n: int, m: int, *, alpha: float) -> float:
    """Return the Kolmogorov-Smirnov distance that chance exceeds; too high, never too low, where values repeat.

    Smirnov, Table for Estimating the Goodness of Fit of Empirical Distributions, 1948; inf without rows.

    >>> round(ks_noise(100, 100, alpha=0.05), 3)
    0.192
    """
    if min(n, m) == 0:
        return math.inf
    return min(1.0, math.sqrt(math.log(2 / alpha) / 2 * (1 / n + 1 / m)))


def total_variation_noise(shares: Float64, n: int, m: int, *, alpha: float) -> float:
    """Return the total variation that chance exceeds, for bins of the given shares.

    Its mean is at most the half sum of the bins' mean differences (Jensen); one row moves it by at most 1/n or 1/m,
    so it stays near its mean (McDiarmid, On the Method of Bounded Differences, 1989). Inf without rows.

    >>> round(total_variation_noise(np.array([0.5, 0.5]), 100, 100, alpha=0.05), 3)
    0.244
    """
    if min(n, m) == 0:
        return math.inf
    rate = 1 / n + 1 / m
    mean = float(np.sqrt(shares * (1 - shares) * rate).sum()) / 2
    return min(1.0, mean + math.sqrt(math.log(1 / alpha) / 2 * rate))
