"""The distributions of a search space. Knows nothing of trainers or sweeps."""

import math
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from raymlops.values import JsonValue

__all__ = ["Distribution"]


class Distribution(BaseModel):
    """Where the values of one option are drawn from; exactly one field is given.

    >>> Distribution(choice=(3,)).draw(np.random.default_rng(0))
    3
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

    def draw(self, random: np.random.Generator) -> JsonValue:
        """Return one value; the same generator state gives the same value."""
        if self.uniform:
            return float(random.uniform(*self.uniform))
        if self.log:
            return float(math.exp(random.uniform(math.log(self.log[0]), math.log(self.log[1]))))
        if self.integers:
            return int(random.integers(self.integers[0], self.integers[1], endpoint=True))
        assert self.choice is not None
        return self.choice[int(random.integers(len(self.choice)))]
