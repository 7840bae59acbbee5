"""How rows should travel to a predictor: numpy or Arrow, into XGBoost. Run: python benchmarks/engine.py [--quick].

Both hold the same float32 values, 28 features, 15 % missing. Arrow is a table of one chunk a column, which XGBoost
takes as columns without a copy; numpy is C-contiguous, which it takes as it lies.
"""

import gc
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
from line import Line, arguments, print_lines

FEATURES, TREES, DEPTH = 28, 100, 6
# Rows a call, threads, and the least ratio: a request, a page, a batch of the score stage, a whole table.
CASES = ((1, 1, 2.0), (256, 1, 1.3), (4_096, 1, 0.95), (0, 1, 0.95), (0, 2, 0.95))


def main() -> int:
    """Print a line a case; return 1 when numpy misses a bar."""
    given = arguments(__doc__, quick="200 thousand rows, not a million, and fewer rounds")
    whole, rounds = (200_000, 5) if given.quick else (1_000_000, 9)
    booster, x, table = _inputs(whole)
    lines = []
    for size, threads, bar in CASES:
        rows = size or whole
        booster.set_param({"nthread": threads})
        part, columns = x[:rows], table.slice(0, rows).combine_chunks()
        calls = {"numpy": partial(booster.inplace_predict, part), "arrow": partial(booster.inplace_predict, columns)}
        assert np.allclose(calls["numpy"](), calls["arrow"](), atol=1e-6)
        taken = interleaved(calls, rounds=rounds if rows == whole else rounds * 40)
        ours, rival = rows / median(taken["numpy"]), rows / median(taken["arrow"])
        what = f"XGBoost answers {rows:,} rows of {FEATURES}, {threads} threads, numpy against Arrow"
        lines.append(Line(what=what, unit="rows/s", ours=ours, rival=rival, ratio=ours / rival, bar=bar))
    return print_lines(lines, as_json=given.json)


def _inputs(rows: int) -> tuple[Any, np.ndarray, pa.Table]:
    import xgboost

    random = np.random.default_rng(0)
    x = random.normal(size=(rows, FEATURES)).astype(np.float32)
    x[random.random(x.shape) < 0.15] = np.nan
    part = x[:20_000]
    y = np.nan_to_num(part[:, :5]).sum(axis=1) + random.normal(size=len(part)) > 0
    settings = {"objective": "binary:logistic", "max_depth": DEPTH, "seed": 0}
    booster = xgboost.train(settings, xgboost.DMatrix(part, y), TREES)
    booster.feature_names = booster.feature_types = None
    # Arrow says missing by a null; NaN inside is missing to XGBoost as well, and needs no second buffer.
    table = pa.table({f"f{j}": pa.array(np.ascontiguousarray(x[:, j])) for j in range(FEATURES)})
    return booster, x, table


def interleaved(calls: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of one call of each a round, the order turned round every time; a first round warms up."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    gc.disable()
    for number in range(rounds + 1):
        for name in list(calls) if number % 2 else list(calls)[::-1]:
            start = time.perf_counter()
            calls[name]()
            if number:
                taken[name].append(time.perf_counter() - start)
    gc.enable()
    return taken


if __name__ == "__main__":
    sys.exit(main())
