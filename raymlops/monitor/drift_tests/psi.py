"""Drift by the population stability index: how far the shares of a column's bins have moved.

The size of the shift decides, not a p-value: at 25,000 rows a month shifts that no model notices have p below 1e-10
(Lin, Lucas and Shmueli, Too Big to Fail: Large Samples and the p-Value Problem, 2013). Chance only sets a floor, so
that a period of few rows does not raise an alarm. Limits: Siddiqi, Credit Risk Scorecards, 2006, section 6.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from raymlops.monitor.bins import category_counts, number_counts, obstacle
from raymlops.protocols import Drift
from raymlops.sketch import ColumnProfile
from raymlops.stats import psi, psi_noise
from raymlops.values import Float64

__all__ = ["Psi"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Psi:
    """PSI over the reference's quantiles or categories, with a bin for missing and one for rare and unseen categories.


    ``limit``: from where a shift counts; 0.1 is small, 0.2 is large. ``bins``: quantile bins of a number.
    ``false_alarms``: largest share of comparisons flagged when nothing has changed; few rows raise the limit to it
    (asymptotic: with 40 rows up to 0.003 were measured, tests/monitor/test_drift_tests.py).
    """

    limit: Annotated[float, Field(gt=0)] = 0.2
    bins: Annotated[int, Field(ge=2, le=200)] = 10
    false_alarms: Annotated[float, Field(gt=0, lt=1)] = 0.001

    def compare(self, reference: ColumnProfile, current: ColumnProfile) -> Drift:
        """Return the index, unbounded above, 0 for equal shares; a change of type is drift of distance 1."""
        if why := obstacle(reference, current):
            return Drift(test="psi", distance=0.0, limit=self.limit, drifted=False, note=why)
        if reference.kind != current.kind:
            note = f"was a {reference.kind}, is a {current.kind}"
            return Drift(test="psi", distance=1.0, limit=self.limit, drifted=True, note=note)
        if reference.kind == "category":
            before, now = _rare_together(*category_counts(reference, current))
        else:
            before, now = number_counts(reference, current, bins=self.bins)
        used = int(np.count_nonzero(before + now))
        floor = psi_noise(used, reference.rows, current.rows, alpha=self.false_alarms)
        distance, limit = psi(before, now), max(self.limit, floor)
        note = (
            f"limit raised from {self.limit:g}: {min(reference.rows, current.rows):,} rows"
            if floor > self.limit
            else ""
        )
        return Drift(test="psi", distance=distance, limit=limit, drifted=distance > limit, note=note)


def _rare_together(before: Float64, now: Float64) -> tuple[Float64, Float64]:
    """Keep a bin for missing rows (the first) and one for each common category, and put all others together.

    Hundreds of categories of a row or two each would be a large index by chance alone: five expected rows a bin,
    Cochran, Some Methods for Strengthening the Common Chi-squared Tests, 1954, section 2. Unseen ones join them: what
    a sample has not seen is about as common as what it has seen once (Good, 1953).
    """
    pooled = (before + now) / (before + now).sum()
    rare = (pooled * min(before.sum(), now.sum()) < 5) | (before == 0)
    rare[0] = False
    return np.append(before[~rare], before[rare].sum()), np.append(now[~rare], now[rare].sum())
