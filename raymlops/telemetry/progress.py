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
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=total, note="")
        yield lambda done, note: bar.update(task, advance=done, note=note)


@contextmanager
def _lines(name: str, total: int, unit: str, clock: Callable[[], float]) -> Iterator[Advance]:
    start, shown, done = clock(), clock(), 0

    def advance(more: int, note: str) -> None:
        nonlocal shown, done
        done += more
        now = clock()
        if now - shown >= _PLAIN_EVERY_S or done >= total:
            shown = now
            left = f", {(now - start) / done * (total - done):.0f} s left" if 0 < done < total else ""
            say(f"{name}: {done:,} of {total:,} {unit}{left}{', ' + note if note else ''}")

    yield advance
