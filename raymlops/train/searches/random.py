"""Points drawn evenly and independently. Knows nothing of what came of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from raymlops.values import Coordinate, Dimension, Told

__all__ = ["Random"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Random:
    """Each point has a generator of its own, so more trials leave the first ones as they were."""

    def looks_back(self) -> bool:
        """Return False."""
        return False

    def propose(
        self, space: Mapping[str, Dimension], told: Sequence[Told], *, start: int, count: int, seed: int
    ) -> Sequence[dict[str, Coordinate]]:
        """Return the points, whatever was told."""
        return [_point(space, np.random.default_rng([seed, number])) for number in range(start, start + count)]


def _point(space: Mapping[str, Dimension], random: np.random.Generator) -> dict[str, Coordinate]:
    return {
        name: float(random.random()) if one.size is None else int(random.integers(one.size))
        for name, one in sorted(space.items())
    }
