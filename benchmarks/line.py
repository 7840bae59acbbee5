"""A measured number as a line: what · ours · the rival's · ratio · bar · met or missed. Knows nothing of any room."""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median

__all__ = ["Line", "arguments", "interleaved", "parser", "print_lines"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """``ratio`` says how many times better ours is than the rival's; the bar is what it must reach, 0 asks nothing."""

    what: str
    unit: str
    ours: float
    rival: float
    ratio: float
    bar: float

    @property
    def met(self) -> bool:
        """Whether the bar is reached."""
        return self.ratio >= self.bar


def arguments(description: str | None, quick: str) -> argparse.Namespace:
    """Return `quick` and `json` of the command line; `quick` says what it leaves out."""
    return parser(description, quick).parse_args()


def parser(description: str | None, quick: str) -> argparse.ArgumentParser:
    """Return what reads `--quick` and `--json`, for a room that takes more words."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help=quick)
    made.add_argument("--json", action="store_true", help="a JSON object a line")
    return made


def interleaved(calls: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, float]:
    """Return the median seconds of each call over rounds in which each runs once, so that noise hits all alike."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - start)
    return {name: median(seconds) for name, seconds in taken.items()}


def print_lines(lines: Sequence[Line], *, as_json: bool) -> int:
    """Print the lines as they came; return 1 if one misses its bar."""
    for line in lines:
        verdict = "told" if line.bar == 0 else "met" if line.met else "missed"
        if as_json:
            print(json.dumps({**asdict(line), "met": line.met}))
        else:
            print(f"{line.what} · {line.ours:,.4g} {line.unit} · {line.rival:,.4g} {line.unit} · {line.ratio:,.2f}x · "
                  f"{line.bar:g}x · {verdict}", flush=True)  # fmt: skip
    return 0 if all(line.met for line in lines) else 1
