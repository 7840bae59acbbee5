"""Searches: their laws, and what each promises beyond them."""

import random
from typing import Any

import numpy as np
import pytest

from raymlops.errors import SpecError
from raymlops.plugins import kind_names
from raymlops.protocols import Search
from raymlops.spec import TrainSpec
from raymlops.testing.search_laws import check_search
from raymlops.train.searches.grid import Grid
from raymlops.train.searches.random import Random
from raymlops.train.searches.sobol import Sobol
from raymlops.train.searches.tpe import Tpe
from raymlops.train.sweep import Result, Trial, batches
from raymlops.values import Dimension, Told

SEARCHES: dict[str, Search] = {"grid": Grid(), "random": Random(), "sobol": Sobol(), "tpe": Tpe(startup=4)}
LINE = {"x": Dimension()}


def test_every_search_is_tested() -> None:
    assert set(SEARCHES) == set(kind_names("raymlops.train.searches"))


@pytest.mark.parametrize("name", sorted(SEARCHES))
def test_a_search_keeps_the_laws(name: str) -> None:
    check_search(SEARCHES[name])


def test_a_grid_holds_every_point_once_and_ends() -> None:
    space = {"a": Dimension(size=2), "b": Dimension(size=3, ordered=False), "c": Dimension()}
    points = Grid(steps=2).propose(space, [], start=0, count=100, seed=0)
    assert len({tuple(sorted(point.items())) for point in points}) == len(points) == 2 * 3 * 2
    assert Grid(steps=2).propose(space, [], start=12, count=5, seed=0) == []


def test_sobol_leaves_smaller_holes_than_chance() -> None:
    def largest_hole(points: Any) -> float:
        return float(np.diff(sorted([0.0, *(point["x"] for point in points), 1.0])).max())

    drawn = [[one.propose(LINE, [], start=0, count=64, seed=seed) for seed in range(5)] for one in (Sobol(), Random())]
    sobol, chance = (max(largest_hole(points) for points in found) for found in drawn)
    assert sobol <= 2 / 64
    assert sobol < chance


def test_sobol_refuses_more_dimensions_than_it_has() -> None:
    with pytest.raises(SpecError, match="use random"):
        Sobol().propose({str(n): Dimension() for n in range(21_202)}, [], start=0, count=1, seed=0)


def test_tpe_looks_where_good_points_lay() -> None:
    told: list[Told] = []
    for _ in range(10):
        points = Tpe().propose(LINE, told, start=len(told), count=6, seed=3)
        told += [Told(point=point, loss=(float(point["x"]) - 0.7) ** 2) for point in points]
    late = [float(one.point["x"]) for one in told[30:]]
    assert np.median(np.abs(np.array(late) - 0.7)) < 0.1


@pytest.mark.parametrize("halving", [None, {"factor": 2, "rungs": 2}])
def test_a_sweep_is_the_same_whatever_the_order_in_which_its_trials_end(halving: Any) -> None:
    """Seeded samplers that are told as trials end part ways after some twenty trials; so 64 are tried."""
    train = TrainSpec.model_validate(
        {
            "search": "tpe",
            "generation": 8,
            "halving": halving,
            "trainers": {
                "xgboost": {
                    "trials": 48,
                    "space": {"learning_rate": {"log": [0.01, 1]}, "max_depth": {"integers": [2, 9]}},
                },
                "pytorch": {"trials": 16, "space": {"hidden": {"choice": [[8], [16], [32, 8]]}}},
            },
        }
    )
    sweeps = [_swept(train, order=random.Random(seed)) for seed in range(4)]
    assert all(sweep == sweeps[0] for sweep in sweeps)
    assert len({trial.index for trial in sweeps[0]}) == 64
    other = _swept(train.model_copy(update={"generation": 4}), order=random.Random(0))
    assert [trial.options for trial in other] != [trial.options for trial in sweeps[0]]


def _swept(train: TrainSpec, *, order: random.Random) -> list[Trial]:
    """Run a sweep whose batches end in any order, as they would on many workers."""
    ran: list[Trial] = []
    steps = batches(train, "logloss")
    batch = next(steps)
    while True:
        ran += batch
        ended = {}
        for trial in order.sample(list(batch), len(batch)):
            ended[trial.index] = _result(trial)
        try:
            batch = steps.send([ended[trial.index] for trial in batch])
        except StopIteration:
            return ran


def _result(trial: Trial) -> Result:
    rate = trial.options.get("learning_rate", 0.5)
    assert isinstance(rate, float)
    metrics = {} if trial.index % 13 == 5 else {"logloss": abs(np.log(rate / 0.2)) / 10 + 0.1 * (1 - trial.share)}
    return Result(
        index=trial.index,
        trainer=trial.trainer,
        options=trial.options,
        seed=trial.seed,
        params={},
        metrics=metrics,
        seconds=0.0,
        rung=trial.rung,
        share=trial.share,
    )
