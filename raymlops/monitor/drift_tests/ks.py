"""Drift by the Kolmogorov-Smirnov distance: the largest gap between two cumulative distributions.

The size of the gap decides, not a p-value: at 25,000 rows a month gaps that no model notices have p below 1e-10
(Lin, Lucas and Shmueli, Too Big to Fail: Large Samples and the p-Value Problem, 2013). Chance only sets a floor, so
that a period of few rows does not raise an alarm. Categories have no order, so that there is no largest gap of theirs:
they are compared by total variation, the share of rows that changed their category (Levin and Peres, Markov Chains
and Mixing Times, 2017, section 4.1). Both lie in [0, 1] and agree where there are two categories.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from raymlops.monitor.bins import category_counts, obstacle
from raymlops.protocols import Drift
from raymlops.sketch import ColumnProfile
from raymlops.stats import ks_distance, ks_noise, total_variation, total_variation_noise

__all__ = ["Ks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ks:
    """KS distance of numbers, total variation of categories; missing rows are a shift of their own.

    ``limit``: from where a shift counts, in [0, 1]. ``false_alarms``: largest share of comparisons flagged when
    nothing has changed; few rows raise the limit to it.
    """

    limit: Annotated[float, Field(gt=0, le=1)] = 0.1
    false_alarms: Annotated[float, Field(gt=0, lt=1)] = 0.001

    def compare(self, reference: ColumnProfile, current: ColumnProfile) -> Drift:
        """Return the distance in [0, 1], 0 for equal distributions; a change of type is drift of distance 1.

        Numbers: the larger of the gap among present rows and the change of the share of missing rows.
        """
        if why := obstacle(reference, current):
            return Drift(test="ks", distance=0.0, limit=self.limit, drifted=False, note=why)
        if reference.kind != current.kind:
            note = f"was a {reference.kind}, is a {current.kind}"
            return Drift(test="ks", distance=1.0, limit=self.limit, drifted=True, note=note)
        if reference.kind == "category":
            return self._categories(reference, current)
        shifts = [self._missing(reference, current)]
        if reference.present and current.present:
            shifts.append(self._numbers(reference, current))
        return max(shifts, key=lambda drift: (drift.drifted, drift.distance))

    def _categories(self, reference: ColumnProfile, current: ColumnProfile) -> Drift:
        before, now = category_counts(reference, current)
        pooled = (before + now) / (before + now).sum()
        floor = total_variation_noise(pooled, reference.rows, current.rows, alpha=self.false_alarms)
        return self._drift(
            total_variation(before, now), floor, min(reference.rows, current.rows), "total variation of categories"
        )

    def _missing(self, reference: ColumnProfile, current: ColumnProfile) -> Drift:
        shift = abs(current.missing / current.rows - reference.missing / reference.rows)
        # Half of the false alarms for each of the two shifts of numbers.
        floor = ks_noise(reference.rows, current.rows, alpha=self.false_alarms / 2)
        return self._drift(shift, floor, min(reference.rows, current.rows), "shift of missing rows")

    def _numbers(self, reference: ColumnProfile, current: ColumnProfile) -> Drift:
        at = np.union1d(reference.points(), current.points())
        floor = ks_noise(reference.present, current.present, alpha=self.false_alarms / 2)
        return self._drift(
            ks_distance(reference.cdf(at), current.cdf(at)), floor, min(reference.present, current.present), ""
        )

    def _drift(self, distance: float, floor: float, rows: int, note: str) -> Drift:
        raised = f"limit raised from {self.limit:g}: {rows:,} rows" if floor > self.limit else ""
        limit = max(self.limit, floor)
        notes = "; ".join(part for part in (note, raised) if part)
        return Drift(test="ks", distance=distance, limit=limit, drifted=distance > limit, note=notes)
