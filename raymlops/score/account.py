"""What has become of a run's rows so far, kept as it grows, and the error budget that it must keep. Knows no files."""

from collections import Counter
from dataclasses import dataclass, field

from raymlops.errors import DataError
from raymlops.score.ledger import PieceCount
from raymlops.spec import ScoreSpec

__all__ = ["Account"]

_BUDGET_FROM_ROWS = 10_000
_SHOWN = 5


@dataclass(slots=True)
class Account:
    """Totals of the pieces added; ``read`` and ``judged`` leave out what could not be read, which is no bad row."""

    pieces: int = 0
    scored: int = 0
    dead: int = 0
    filtered: int = 0
    read: int = 0
    judged: int = 0
    refused: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    causes: list[str] = field(default_factory=list)

    def add(self, count: PieceCount) -> None:
        """Count a piece."""
        self.pieces += 1
        self.scored += count.scored
        self.dead += count.dead
        self.filtered += count.filtered
        if count.cause:
            self.causes = [*self.causes, count.cause][:_SHOWN]
            return
        self.read += 1
        self.judged += count.scored + count.dead
        self.refused += count.dead
        self.rules.update(count.rules)

    def check(self, spec: ScoreSpec, *, where: str, ended: bool) -> None:
        """Raise DataError when more rows are refused than the spec allows, or at the end no piece could be read.

        While rows are still to come a share of few rows says nothing, so it is looked at from 10,000 rows on.
        """
        if ended and self.pieces and not self.read:
            raise DataError(
                f"score: none of {self.pieces} pieces of the input could be read; nothing was published", *self.causes
            )
        share = self.refused / self.judged if self.judged >= (1 if ended else _BUDGET_FROM_ROWS) else 0.0
        over = [f"score.max_dead_share={spec.max_dead_share:g}"] if share > spec.max_dead_share else []
        if spec.max_dead_rows is not None and self.refused > spec.max_dead_rows:
            over.append(f"score.max_dead_rows={spec.max_dead_rows}")
        if over:
            worst = "; ".join(f"{rule} ({rows:,} rows)" for rule, rows in self.rules.most_common(_SHOWN))
            raise DataError(
                f"score: {self.refused:,} of {self.judged:,} rows break the contract, over {' and '.join(over)}: "
                f"{worst}. Each row is in {where}; nothing was published"
            )
