"""What a page is made of: the evidence of the stages as plain values. Knows nothing of how a page looks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

__all__ = ["ReportInput", "report_input"]

Evidence = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportInput:
    """Evidence as the stages return it; a part that is None is left out of the page.

    ``monitor``: of `raymlops.monitor.run`. ``retrained``: of `raymlops.train.run` with a model, one a window it was
    fitted to: model, on, and `periods` (period, metric). ``sweep``: `trials` (index, trainer, params, seconds,
    metrics or metric, cause or state), `winner` (an index) and `metric`. ``optimize``: `table`, `choice`, `reason`,
    and `metric`, `budget`, `rows` where known. ``scores``: rows_in, scored, dead, filtered, run, on.
    ``comparison``: rows, max_difference, bit_equal. ``places``: what, and the path, URL or command to find it.
    ``facts``: what, and a value in words, for the page's foot.
    """

    name: str
    monitor: Evidence | None = None
    retrained: Sequence[Evidence] = ()
    sweep: Evidence | None = None
    optimize: Evidence | None = None
    scores: Evidence | None = None
    comparison: Evidence | None = None
    places: Sequence[tuple[str, str]] = ()
    facts: Sequence[tuple[str, str]] = ()


def report_input(name: str, result: Mapping[str, Any]) -> ReportInput:
    """Return the input from stages' results by stage name, those of retrainings in `again`, as the demo has them."""
    facts = []
    if "seconds" in result:
        facts.append(("wall time", f"{result['seconds']:,.0f} s"))
    if result.get("peak_bytes"):
        facts.append(("peak memory", f"{result['peak_bytes'] / 2**30:.1f} GiB"))
    return ReportInput(
        name=name,
        monitor=result.get("monitor"),
        retrained=tuple(result.get("again") or ()),
        sweep=result.get("train"),
        optimize=_whole(result.get("optimize")),
        scores=result.get("score"),
        comparison=result.get("comparison"),
        places=[(str(what), str(where)) for what, where in result.get("places", ())],
        facts=facts,
    )


def _whole(optimize: Evidence | None) -> Evidence | None:
    """The stage returns a summary; budget and metric stand in the document that it wrote."""
    if optimize is None:
        return None
    path = Path(next(iter(optimize.get("outputs", ())), ""))
    return {**(orjson.loads(path.read_bytes()) if path.is_file() else {}), **optimize}
