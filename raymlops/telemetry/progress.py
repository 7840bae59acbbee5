"""A progress bar in a terminal, a plain line now and then elsewhere; both on standard error.

Standard output is kept for results, so that `--json` can be piped.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["progress", "say"]

Advance: TypeAlias = Callable[[int, str], None]
Rows: TypeAlias = Sequence[Sequence[str]]

_PLAIN_EVERY_S = 5.0


def say(text: str) -> None:
    """Write one line for the person who waits."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


@contextmanager
def progress(
    name: str,
    *,
    total: int,
    unit: str,
    table: Callable[[], Rows] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Advance]:
    """Show how far `total` units of work are; the value is called with (done since last time, note).

    In a terminal, `table` stands above the bar as it is now, the names of its columns first; it is asked for four times
    a second, and its last state stays.
    """
    if sys.stderr.isatty():
        with _bar(name, total, unit, clock, table) as advance:
            yield advance
    else:
        with _lines(name, total, unit, clock) as advance:
            yield advance


@contextmanager
def _bar(
    name: str, total: int, unit: str, clock: Callable[[], float], table: Callable[[], Rows] | None
) -> Iterator[Advance]:
    from rich.console import Console, Group
    from rich.live import Live
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
    console = Console(stderr=True)
    bar = Progress(*columns, console=console)

    def drawn() -> Group:
        return Group(*([_drawn(table())] if table else []), bar.get_renderable())

    with Live(get_renderable=drawn, console=console, refresh_per_second=4):
        task = bar.add_task(name, total=total, note="", rate="")
        start, done = clock(), 0

        def advance(more: int, note: str) -> None:
            nonlocal done
            done += more
            bar.update(task, advance=more, note=note, rate=_rate(done, clock() - start, unit))

        yield advance


def _drawn(rows: Rows) -> "Table":
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="dim")
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for name, width in zip(rows[0], [*widths[:-1], 0], strict=True):
        made.add_column(name, overflow="ellipsis", no_wrap=True, min_width=width)  # the last one gives way
    for row in rows[1:]:
        made.add_row(*row)
    return made


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
