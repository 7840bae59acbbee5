"""Every point of a grid, in its order. Knows nothing of what came of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Annotated

from pydantic import Field

from raymlops.values import Coordinate, Dimension, Told

__all__ = ["Grid"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """All choices and whole numbers, and ``steps`` values of what is continuous, the middles of equal parts.

    The last name in the alphabet changes fastest. A space that holds fewer points than trials are asked for is
    exhausted before; of one that holds more the first ones are tried.
    """

    steps: Annotated[int, Field(ge=1, le=10_000)] = 5

    def looks_back(self) -> bool:
        """Return False."""
        return False

    def propose(
        self, space: Mapping[str, Dimension], told: Sequence[Told], *, start: int, count: int, seed: int
    ) -> Sequence[dict[str, Coordinate]]:
        """Return the points; none behind the last one."""
        names = sorted(space)
        points = product(*(self._values(space[name]) for name in names))
        return [dict(zip(names, point, strict=True)) for point in islice(points, start, start + count)]

    def _values(self, dimension: Dimension) -> Sequence[Coordinate]:
        if dimension.size is None:
            return [(step + 0.5) / self.steps for step in range(self.steps)]
        return range(dimension.size)
