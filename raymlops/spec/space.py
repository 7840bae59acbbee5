"""The distributions of a search space. Knows nothing of trainers or sweeps."""

import math
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from raymlops.values import Coordinate, Dimension, JsonValue

__all__ = ["Distribution"]


class Distribution(BaseModel):
    """Where the values of one option are drawn from; exactly one field is given.

    >>> Distribution(integers=(1, 4)).dimension, Distribution(integers=(1, 4)).value(2)
    (Dimension(size=4, ordered=True), 3)
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    uniform: tuple[float, float] | None = Field(None, description="[low, high), evenly")
    log: tuple[float, float] | None = Field(None, description="[low, high), evenly in the logarithm; low above 0")
    integers: tuple[int, int] | None = Field(None, description="[low, high], whole numbers, evenly")
    choice: tuple[JsonValue, ...] | None = Field(None, min_length=1, description="one of the values, evenly")

    @model_validator(mode="after")
    def _one_range_that_holds_something(self) -> Self:
        given = [name for name in ("uniform", "log", "integers", "choice") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one of uniform, log, integers, choice; {' and '.join(given) or 'none'} given")
        bounds = self.uniform or self.log or self.integers
        if bounds and not (all(math.isfinite(b) for b in bounds) and bounds[0] < bounds[1]):
            raise ValueError(f"{given[0]}: {list(bounds)} holds nothing; low must be below high, both finite")
        if self.log and self.log[0] <= 0:
            raise ValueError(f"log: {list(self.log)} starts at or below 0, which has no logarithm")
        return self

    @property
    def dimension(self) -> Dimension:
        """Return in what a search looks for a value: integers and choices are counted from 0, the rest is [0, 1)."""
        if self.integers:
            return Dimension(size=self.integers[1] - self.integers[0] + 1)
        return Dimension(size=len(self.choice), ordered=False) if self.choice is not None else Dimension()

    def value(self, at: Coordinate) -> JsonValue:
        """Return the value at a coordinate of the dimension."""
        if self.uniform:
            low, high = self.uniform
            return low + (high - low) * at
        if self.log:
            low, high = (math.log(bound) for bound in self.log)
            return math.exp(low + (high - low) * at)
        if self.integers:
            return self.integers[0] + int(at)
        assert self.choice is not None
        return self.choice[int(at)]
