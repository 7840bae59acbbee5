"""Points of a scrambled Sobol sequence: they leave smaller holes than random ones (Owen, 1998).

Knows nothing of what came of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raymlops.errors import SpecError
from raymlops.values import Coordinate, Dimension, Told

__all__ = ["Sobol"]

_MOST_DIMENSIONS = 21_201  # of the direction numbers of Joe and Kuo that SciPy has


@dataclass(frozen=True, slots=True, kw_only=True)
class Sobol:
    """More trials leave the first ones as they were; numbers that are powers of two are covered best."""

    def looks_back(self) -> bool:
        """Return False."""
        return False

    def propose(
        self, space: Mapping[str, Dimension], told: Sequence[Told], *, start: int, count: int, seed: int
    ) -> Sequence[dict[str, Coordinate]]:
        """Return the points; raise SpecError for a space of more dimensions than the sequence has."""
        from scipy.stats import qmc

        if not space:
            return [{} for _ in range(count)]
        if len(space) > _MOST_DIMENSIONS:
            raise SpecError(f"sobol: {len(space)} dimensions, at most {_MOST_DIMENSIONS} are possible; use random")
        sequence = qmc.Sobol(len(space), scramble=True, rng=seed)
        if start:
            sequence.fast_forward(start)
        names = sorted(space)
        return [
            {name: _coordinate(space[name], float(at)) for name, at in zip(names, point, strict=True)}
            for point in (sequence.random(1)[0] for _ in range(count))
        ]


def _coordinate(dimension: Dimension, at: float) -> Coordinate:
    return at if dimension.size is None else min(int(at * dimension.size), dimension.size - 1)
