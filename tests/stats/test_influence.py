"""Values are those of scikit-learn, and a 95 % interval holds the truth about 95 times in a hundred."""

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import norm
from sklearn import metrics

from raymlops.stats.influence import difference, influence, interval, metric_value

Arrays = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]


def drawn(metric: str, seed: int, rows: int) -> Arrays:
    """Return labels and the answers of two models, the first a little better."""
    random = np.random.default_rng(seed)
    signal = random.normal(size=rows)
    if metric in ("mae", "rmse"):
        return signal, signal + 0.9 * random.normal(size=rows), signal + random.normal(size=rows)
    y = (signal + random.normal(size=rows) > 0.3).astype(np.float64)
    good, poor = norm.cdf(signal - 0.3), norm.cdf(0.7 * signal + 0.5 * random.normal(size=rows))
    return y, good, poor


def _by_sklearn(metric: str, y: npt.NDArray[np.float64], p: npt.NDArray[np.float64]) -> float:
    if metric in ("mae", "rmse"):
        return float({"mae": metrics.mean_absolute_error, "rmse": metrics.root_mean_squared_error}[metric](y, p))
    if metric == "logloss":
        held = np.clip(p, 1e-7, 1 - 1e-7)
        held = held / held.sum(axis=1, keepdims=True) if p.ndim == 2 else held
        return float(metrics.log_loss(y, held, labels=range(p.shape[1]) if p.ndim == 2 else [0, 1]))
    if metric == "accuracy":
        return float(metrics.accuracy_score(y, p.argmax(axis=1) if p.ndim == 2 else p >= 0.5))
    if p.ndim == 1:
        return float(metrics.roc_auc_score(y, p))
    return float(np.mean([metrics.roc_auc_score(y == c, p[:, c]) for c in range(p.shape[1]) if (y == c).any()]))


METRICS = ("auc", "accuracy", "logloss", "mae", "rmse")


@pytest.mark.parametrize("metric", METRICS)
def test_values_are_those_of_the_metric(metric: str) -> None:
    y, good, _ = drawn(metric, 0, 500)
    good = np.clip(np.round(good, 2), 0, 1) if metric not in ("mae", "rmse") else good  # with ties
    value, moved = influence(metric, y, good)
    assert value == pytest.approx(_by_sklearn(metric, y, good), rel=1e-9)
    assert metric_value(metric, y, good) == pytest.approx(value, rel=1e-12)
    assert moved.mean() == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("metric", ["auc", "accuracy", "logloss"])
def test_values_of_several_classes_are_those_of_the_metric(metric: str) -> None:
    random = np.random.default_rng(0)
    p = random.dirichlet([1, 2, 3, 1], size=400)
    y = np.array([random.choice(4, p=row) for row in p], dtype=np.float64)
    y[y == 3] = 0  # a class that does not occur
    value, moved = influence(metric, y, p)
    assert value == pytest.approx(_by_sklearn(metric, y, p), rel=1e-9)
    assert metric_value(metric, y, p) == pytest.approx(value, rel=1e-12)
    assert moved.mean() == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("metric", METRICS)
def test_an_interval_of_95_percent_holds_the_truth_that_often(metric: str) -> None:
    big = drawn(metric, 10_000, 2_000_000)
    value, gain = influence(metric, big[0], big[1])[0], difference(metric, *big).value
    assert gain > 0
    samples = [drawn(metric, seed, 300) for seed in range(1_000)]
    held = [interval(metric, y, good) for y, good, _ in samples]
    gained = [difference(metric, *sample) for sample in samples]
    assert 0.93 <= np.mean([one.low <= value <= one.high for one in held]) <= 0.97
    assert 0.93 <= np.mean([one.low <= gain <= one.high for one in gained]) <= 0.97


def test_the_area_has_delongs_variance() -> None:
    """Written out: the variances of the placements of both sides, each over their number."""
    y, good, _ = drawn("auc", 3, 200)
    up, down = good[y == 1], good[y == 0]
    wins = (up[:, None] > down[None, :]) + 0.5 * (up[:, None] == down[None, :])
    expected = wins.mean(axis=1).var() / len(up) + wins.mean(axis=0).var() / len(down)
    _, moved = influence("auc", y, good)
    assert np.mean(moved**2) / len(y) == pytest.approx(expected, rel=1e-9)


def test_where_one_class_occurs_there_is_no_area() -> None:
    found = interval("auc", np.zeros(5), np.linspace(0, 1, 5))
    assert np.isnan([found.value, found.low, found.high]).all()
