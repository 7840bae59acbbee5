"""The numbers of a run for Prometheus, while it runs and after it. Knows no pieces, nor how they are spread."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from raymlops.score.account import Account
from raymlops.spec import home
from raymlops.telemetry import Metric, say, write_metrics

__all__ = ["Meter", "committed", "metered"]

_EVERY_S = 2.0


@dataclass(slots=True, kw_only=True)
class Meter:
    """Writes what the account holds to `HOME/metrics/score-MODEL.prom`; ``total`` rows are to be done, if known."""

    model: str
    account: Account
    total: int | None
    pieces: int
    clock: Callable[[], float] = time.time
    began: float = field(init=False)
    _before: Account = field(init=False)
    _written: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.began = self.clock()
        self._before = Account(scored=self.account.scored, dead=self.account.dead, filtered=self.account.filtered)

    def update(self) -> None:
        """Write, unless that was done less than two seconds ago."""
        if self.clock() - self._written >= _EVERY_S:
            self.write(running=True)

    def write(self, *, running: bool) -> None:
        """Write what is so now. A full disk stops no run by this: the numbers are then old, which their time tells."""
        now, account, before = self.clock(), self.account, self._before
        self._written = now
        rows = account.scored + account.dead + account.filtered - before.scored - before.dead - before.filtered
        rate = rows / (now - self.began) if now > self.began else 0.0
        outcomes = {"scored": account.scored, "dead": account.dead, "filtered": account.filtered}
        metrics = [
            Metric(name="raymlops_score_rows", help="Rows of the last run", values=outcomes, label="outcome"),
            _one("pieces_left", "Pieces of the input that the last run has not done", self.pieces - account.pieces),
            _one("rows_per_second", "Rows of the last run in a second, since it began or went on", rate),
            _one("running", "1 while a run goes on; one that was killed leaves a 1 that grows old", int(running)),
            _one("updated_timestamp_seconds", "When these numbers were written", now),
        ]
        if self.total is not None:
            left = max(0, self.total - rows)
            metrics.append(_one("rows_left", "Rows that the last run has not done", left))
            if rate:
                metrics.append(_one("seconds_left", "Time that the last run needs at this rate", left / rate))
        _put(self.model, "score", metrics)


@contextmanager
def metered(model: str, account: Account, *, total: int | None, pieces: int) -> Iterator[Meter]:
    """Hold a meter of a run; whatever ends the block is written as the end of the run."""
    meter = Meter(model=model, account=account, total=total, pieces=pieces)
    meter.write(running=True)
    try:
        yield meter
    finally:
        meter.write(running=False)


def committed(model: str) -> None:
    """Write when rows were last published, to a file of its own, which the next run leaves as it is."""
    _put(model, "committed", [_one("committed_timestamp_seconds", "When a run was last committed", time.time())])


def _put(model: str, name: str, metrics: list[Metric]) -> None:
    try:
        write_metrics(home() / "metrics" / f"{name}-{model}.prom", metrics, labels={"model": model})
    except OSError as error:
        say(f"score: metrics were not written: {error}")


def _one(name: str, text: str, value: float) -> Metric:
    return Metric(name=f"raymlops_score_{name}", help=text, values={"": value})
