"""How much a row of the past counts for the rows of now: importance weights. Pure; knows nothing of files or models.

Where the rows changed but not what follows from them (covariate shift; Shimodaira, 2000), a fit to old rows, each
weighted by p_now(x) / p_then(x), is a fit for the new ones. The ratio comes from a classifier that tells old rows from
new ones (Bickel and others, 2007), here of trees, each row judged by one that has not seen it.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from raymlops.values import Float32

__all__ = ["effective_share", "importance"]

_LARGEST = 50.0  # weight, before they are scaled to 1 in the mean
_TREES = {"max_depth": 4, "eta": 0.1, "objective": "binary:logistic", "tree_method": "hist", "verbosity": 0}
_ROUNDS = 60


def importance(then: Float32, now: Float32, *, categories: Sequence[int], seed: int, threads: int) -> Float32:
    """Return a weight, 1 in the mean, of each of the rows `then` [n, features], so that they look like `now` [m, …]."""
    half = np.random.default_rng(seed).integers(2, size=len(then)).astype(np.bool_)
    half_now = np.random.default_rng(seed + 1).integers(2, size=len(now)).astype(np.bool_)
    kinds = ["c" if count else "float" for count in categories]
    ratio = np.empty(len(then), np.float64)
    for side in (False, True):
        seen, other = half == side, half != side
        odds = _odds(then[seen], now[half_now == side], then[other], kinds, seed=seed, threads=threads)
        ratio[other] = odds * seen.sum() / max(1, int((half_now == side).sum()))
    weight = np.minimum(ratio, _LARGEST)
    return np.asarray(weight / weight.mean(), dtype=np.float32)


def effective_share(weight: Float32) -> float:
    """Return how many equal rows the weighted ones are worth, as a share of them: 1 for equal ones (Kish, 1965)."""
    total = float(weight.sum(dtype=np.float64))
    return total**2 / (len(weight) * float((weight.astype(np.float64) ** 2).sum()))


def _odds(
    then: Float32, now: Float32, of: Float32, kinds: list[str], *, seed: int, threads: int
) -> npt.NDArray[np.float64]:
    import xgboost as xgb

    def matrix(x: Float32, y: npt.NDArray[np.float64] | None = None) -> xgb.DMatrix:
        return xgb.DMatrix(x, y, feature_types=kinds, enable_categorical=True, nthread=threads)

    y = np.repeat([0.0, 1.0], [len(then), len(now)])
    made = xgb.train({**_TREES, "seed": seed, "nthread": threads}, matrix(np.vstack([then, now]), y), _ROUNDS)
    p = np.clip(made.predict(matrix(of)).astype(np.float64), 1e-6, 1 - 1e-6)
    return np.asarray(p / (1 - p))
