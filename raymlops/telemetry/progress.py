"""A progress bar in a terminal, a plain line now and then elsewhere; both on standard error.

Standard output is kept for results, so that `--json` can be piped.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

__all__ = ["progress", "say"]

Advance: TypeAlias = Callable[[int, str], None]

_PLAIN_EVERY_S = 5.0


def say(text: str) -> None:
    """Write one line for the person who waits."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


@contextmanager
def progress(name: str, *, total: int, unit: str, clock: Callable[[], float] = time.monotonic) -> Iterator[Advance]:
    """Show how far `total` units of work are; the value is called with (done since last time, note)."""
    with (_bar if sys.stderr.isatty() else _lines)(name, total, unit, clock) as advance:
        yield advance


@contextmanager
def _bar(name: str, total: int, unit: str, clock: Callable[[], float]) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=total, note="", rate="")
        start, done = clock(), 0

        def advance(more: int, note: str) -> None:
            nonlocal done
            done += more
            bar.update(task, advance=more, note=note, rate=_rate(done, clock() - start, unit))

        yield advance


@contextmanager
def _lines(name: str, total: int, unit: str, clock: Callable[[], float]) -> Iterator[Advance]:
    start, shown, done = clock(), clock(), 0

    def advance(more: int, note: str) -> None:
        nonlocal shown, done
        done += more
        now = clock()
        if now - shown >= _PLAIN_EVERY_S or done >= total:
            shown = now
            left = f"{(now - start) / done * (total - done):.0f} s left" if 0 < done < total else ""
            shares = [f"{name}: {done:,} of {total:,} {unit}", _rate(done, now - start, unit), left, note]
            say(", ".join(share for share in shares if share))

    yield advance


def _rate(done: int, seconds: float, unit: str) -> str:
    """Return the units a second since the start, empty before the first.

    >>> _rate(3_000_000, 2.0, "rows")
    '1,500,000 rows/s'
    >>> _rate(3, 20.0, "trials")
    '0.15 trials/s'
    """
    if seconds <= 0 or not done:
        return ""
    rate = done / seconds
    return f"{rate:,.0f} {unit}/s" if rate >= 10 else f"{rate:.2g} {unit}/s"
