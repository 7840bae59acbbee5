"""What a batch costs: seconds as a line over its rows, learnt as batches come back. Knows nothing of models or time."""

from dataclasses import dataclass

__all__ = ["Cost"]

_KEPT = 0.9  # weight that remains at each batch: about ten are remembered, and a slow first one is soon forgotten


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Exponentially weighted sums over batches: of 1, rows, seconds, rows squared, rows times seconds."""

    weight: float = 0.0
    rows: float = 0.0
    seconds: float = 0.0
    rows_squared: float = 0.0
    rows_seconds: float = 0.0

    def after(self, rows: int, seconds: float) -> "Cost":
        """Return the cost after one more batch."""
        return Cost(
            weight=self.weight * _KEPT + 1,
            rows=self.rows * _KEPT + rows,
            seconds=self.seconds * _KEPT + seconds,
            rows_squared=self.rows_squared * _KEPT + rows * rows,
            rows_seconds=self.rows_seconds * _KEPT + rows * seconds,
        )

    def of(self, rows: int) -> float:
        """Return the expected seconds of a batch, 0 before the first: least squares, neither slope nor start below 0.

        Where all batches had as many rows, a larger one is taken to cost in proportion: that is the most it can.

        >>> cost = Cost().after(10, 0.006).after(30, 0.008)
        >>> round(cost.of(1), 6), round(cost.of(50), 6)
        (0.0051, 0.01)
        """
        if not self.rows:
            return self.seconds / self.weight if self.weight else 0.0
        mean, seconds = self.rows / self.weight, self.seconds / self.weight
        spread = self.rows_squared / self.weight - mean * mean
        steepest = seconds / mean
        if spread > 1e-9 * mean * mean:
            slope = (self.rows_seconds / self.weight - mean * seconds) / spread
            slope = min(max(slope, 0.0), steepest)
        else:
            slope = steepest if rows > mean else 0.0
        return seconds + slope * (rows - mean)
