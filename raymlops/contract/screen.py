"""Whether rows break no rule of the contract, told at once for all columns. Knows no words for what is wrong.

`encode` looks at each column by itself and names what breaks a rule, which takes some microseconds a column: nothing
beside a table, too much beside a request of one row. What passes here is what `encode` would have returned; what does
not pass is for `encode` to judge.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from raymlops.contract.columns import Column
from raymlops.contract.contract import Contract, Feature
from raymlops.values import Float32, Float64

__all__ = ["Screen"]

_LARGEST = float(np.finfo(np.float32).max)
_UNKNOWN = -1.0
_BOOLEAN = pa.bool_()


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """A contract made ready: ``low``, ``high``, ``nullable`` are [features]; ``whole`` are places of whole numbers.

    ``low32`` and ``high32`` are the numbers of 32 bits nearest to the bounds, inside them: no float32 lies between.
    ``free``: no feature is bounded or whole, so that any finite float32 will do.
    """

    free: bool

    low: Float64
    high: Float64
    low32: Float32
    high32: Float32
    nullable: npt.NDArray[np.bool_]
    whole: npt.NDArray[np.intp]
    features: tuple[tuple[str, str, Mapping[str | None, float]], ...]

    @classmethod
    def of(cls, contract: Contract) -> Self:
        """Return the screen of a contract."""
        bounds = [_bounds(feature) for feature in contract.features]
        low = np.array([low for low, _ in bounds], dtype=np.float64)
        high = np.array([high for _, high in bounds], dtype=np.float64)
        low32, high32 = low.astype(np.float32), high.astype(np.float32)
        bounded = any(feature.minimum is not None or feature.maximum is not None for feature in contract.features)
        return cls(
            free=not bounded and all(feature.type == "number" for feature in contract.features),
            low=low,
            high=high,
            low32=np.where(low32 < low, np.nextafter(low32, np.float32(np.inf)), low32),
            high32=np.where(high32 > high, np.nextafter(high32, np.float32(-np.inf)), high32),
            nullable=np.array([feature.nullable for feature in contract.features], dtype=np.bool_),
            whole=np.flatnonzero([feature.type != "number" for feature in contract.features]),
            features=tuple(
                (feature.name, feature.type, {None: np.nan, **{t: float(i) for i, t in enumerate(feature.categories)}})
                for feature in contract.features
            ),
        )

    def matrix(self, x: Float32 | Float64) -> Float32 | None:
        """Return x [rows, features], categories as their index and NaN for missing, if it breaks no rule; else None."""
        if self.free and x.dtype == np.float32 and _all(np.isfinite(x)):
            return np.ascontiguousarray(x, dtype=np.float32)
        low, high = (self.low32, self.high32) if x.dtype == np.float32 else (self.low, self.high)
        inside = (x >= low) & (x <= high)
        if not _all(inside) and not _all(inside | (np.isnan(x) & self.nullable)):
            return None
        if len(self.whole):
            numbers = x[:, self.whole]
            if not _all((numbers == np.floor(numbers)) | np.isnan(numbers)):
                return None
        return np.ascontiguousarray(x, dtype=np.float32)

    def columns(self, columns: Mapping[str, Column]) -> Float32 | None:
        """Return the matrix of the columns if they are plain and break no rule; None if `encode` has to look."""
        rows = len(next(iter(columns.values()), ()))
        x = np.empty((rows, len(self.features)), dtype=np.float64)
        for index, (name, kind, codes) in enumerate(self.features):
            column = columns.get(name)
            if column is None or len(column) != rows or not _is_plain(kind, column.type):
                return None
            if kind == "category":
                x[:, index] = [codes.get(text, _UNKNOWN) for text in column.to_pylist()]
            elif column.type == _BOOLEAN and column.null_count:
                return None
            else:
                x[:, index] = column.to_numpy(zero_copy_only=False)
        return self.matrix(x)


def _all(true: npt.NDArray[np.bool_]) -> bool:
    return b"\0" not in true.tobytes()  # a tenth of the time of `all` for a row, and no more for many


@cache
def _is_plain(kind: str, given: pa.DataType) -> bool:
    if kind == "category":
        return bool(pa.types.is_string(given))
    return bool(pa.types.is_integer(given) or pa.types.is_floating(given) or given == _BOOLEAN)


def _bounds(feature: Feature) -> tuple[float, float]:
    if feature.type == "category":
        return 0.0, float(len(feature.categories) - 1)
    low, high = (0.0, 1.0) if feature.type == "boolean" else (-_LARGEST, _LARGEST)
    minimum, maximum = feature.minimum, feature.maximum
    return low if minimum is None else max(low, minimum), high if maximum is None else min(high, maximum)
