"""Request batching: how often a model that costs 5 ms + 0.1 ms a row answers, and whether each answer finds its caller.

    python benchmarks/serve_batching.py [--quick] [--json]

The model sleeps, as one does whose work is on another device; 64 callers ask for one row each, again and again. The
rival is the same batcher with one row a batch. Then 1,000 callers ask a model that answers at once, one to three rows
a request; some leave, some are poison, and every answer is compared with what its own rows give: `ours` is the number
that were right, the rival's the number that were given.
"""

import asyncio
import sys
import time
from collections import Counter
from random import Random

import numpy as np
from line import Line, arguments, interleaved, print_lines

from raymlops.serve.batch import Batching
from raymlops.serve.batcher import Batcher
from raymlops.values import Float32

__all__ = ["lines"]

CALLERS, ROUTED = 64, 1_000
POISON = -1.0


def main() -> int:
    """Print a line a number; return 1 when one misses its bar."""
    given = arguments(__doc__, quick="a tenth of the answers, and one round, not three")
    return print_lines(lines(quick=given.quick), as_json=given.json)


def lines(*, quick: bool) -> list[Line]:
    """Return the rate against that of single requests, and the share of answers that found their callers."""
    asked = 2_560 if quick else 6_400
    taken = interleaved(
        {"ours": lambda: _timed(CALLERS, asked), "rival": lambda: _timed(1, asked // 10)}, rounds=1 if quick else 3
    )
    ours, rival = asked / taken["ours"], asked // 10 / taken["rival"]
    what = f"a model of 5 ms + 0.1 ms a row, {CALLERS} callers of one row, batches of {CALLERS} against one by one"
    rate = Line(what=what, unit="answers/s", ours=ours, rival=rival, ratio=ours / rival, bar=5)
    right, answers = asyncio.run(_routed(100_000 if quick else 1_000_000))
    what = "answers that are their caller's own, of all that were given, among poison and callers that leave"
    return [rate, Line(what=what, unit="answers", ours=right, rival=answers, ratio=right / answers, bar=1)]


def _timed(most_rows: int, asked: int) -> None:
    def model(x: Float32) -> Float32:
        time.sleep(0.005 + 0.0001 * len(x))
        return x[:, 0]

    async def caller(batcher: Batcher) -> None:
        x = np.zeros((1, 28), dtype=np.float32)
        for _ in range(asked // CALLERS):
            await batcher.predict(x)

    async def run() -> None:
        batcher = Batcher(model, name="timed", limits=Batching(most_rows=most_rows))
        await asyncio.gather(*(caller(batcher) for _ in range(CALLERS)))

    asyncio.run(run())


async def _routed(answers: int) -> tuple[int, int]:
    """Return how many answers were right, of how many."""
    found: Counter[bool] = Counter()
    batcher = Batcher(_doubled, name="routed", limits=Batching(most_rows=256))
    await asyncio.gather(*(_ask(batcher, number, answers, found) for number in range(ROUTED)))
    return found[True], found.total()


def _doubled(x: Float32) -> Float32:
    if POISON in x:
        raise ValueError("poison")
    return 2 * x[:, 0]


async def _ask(batcher: Batcher, number: int, answers: int, found: Counter[bool]) -> None:
    random, asked = Random(number), 0
    while found.total() < answers:
        # No other caller has these numbers at that time; float32 holds them exactly, and their doubles.
        x = (number + np.arange(random.randint(1, 3)) * 0.25 + asked % 1_000 * ROUTED).astype(np.float32)[:, None]
        asked += 1
        if random.random() < 0.0005:
            x[-1] = POISON
        try:
            async with asyncio.timeout(random.uniform(0, 0.01) if random.random() < 0.01 else None):
                found[np.array_equal(await batcher.predict(x), 2 * x[:, 0])] += 1
        except ValueError:
            assert POISON in x
        except TimeoutError:
            pass


if __name__ == "__main__":
    sys.exit(main())
