"""How long a call takes, side by side with others. Knows nothing of engines, budgets or files."""

import time
from collections.abc import Callable, Mapping
from itertools import cycle

import numpy as np

from raymlops.values import Float32, Float64

__all__ = ["asking", "latencies"]

_ROUNDS = 20
_FEWEST, _MOST = 5, 50
_DIFFERENT_ROWS = 4096


def asking(predict: Callable[[Float32], object], x: Float32, *, rows: int) -> Callable[[], object]:
    """Return a call that asks for ``rows`` rows of x, others each time, some 4,096 in all before they come again.

    Asked for the same rows again and again, the processor learns its way through the trees by heart: with 100 trees
    of depth 6 on ONNX Runtime 32 rows then took 63 microseconds, where other rows each time took 173.
    """
    batches = max(1, _DIFFERENT_ROWS // rows)
    places = np.arange(batches * rows) * max(1, len(x) // (batches * rows)) % len(x)
    parts = cycle([np.ascontiguousarray(x[part]) for part in np.split(places, batches)])
    return lambda: predict(next(parts))


def latencies(
    calls: Mapping[str, Callable[[], object]],
    *,
    seconds: float = 0.4,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Float64]:
    """Return the seconds of each single call, 100 to 1,000 of each, about ``seconds`` in all for each.

    Twenty rounds go over all of them, each round starting with the next one, so that what disturbs the machine for
    a while disturbs all of them. The first calls warm up and are not counted.
    """
    names = list(calls)
    counts = {}
    for name in names:
        fastest = min(_timed(calls[name], _FEWEST, clock))
        counts[name] = int(np.clip(seconds / _ROUNDS / max(fastest, 1e-9), _FEWEST, _MOST))
    taken: dict[str, list[float]] = {name: [] for name in names}
    for number in range(_ROUNDS):
        first = number % len(names)
        for name in (*names[first:], *names[:first]):
            taken[name] += _timed(calls[name], counts[name], clock)
    return {name: np.array(values, dtype=np.float64) for name, values in taken.items()}


def _timed(call: Callable[[], object], count: int, clock: Callable[[], float]) -> list[float]:
    call()  # the caches belong to whoever ran last: one call brings them back
    taken = []
    for _ in range(count):
        start = clock()
        call()
        taken.append(clock() - start)
    return taken
