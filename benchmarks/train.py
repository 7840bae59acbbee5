"""Sweep on Ray Tune against the bare loop over the same trials, in one run.

    python benchmarks/train.py [--quick] [--json]

Ours is `run_trials`: the stage's own way to Ray, cluster already up. The rival runs the same trials, one after the
other, on one core in this process; with two cores the ideal is half its time. Rounds are interleaved.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from line import Line, arguments, print_lines

from raymlops import cluster
from raymlops.contract import Contract, Feature, Label
from raymlops.spec import TrainSpec
from raymlops.train.sweep import Trial, trials
from raymlops.train.trial import Setting, run_trial
from raymlops.values import Examples

FEATURES = 28


def main() -> int:
    """Measure and print; exit 1 when a bar is missed."""
    given = arguments(__doc__, quick="8 trials of 20 thousand rows, one round; not 16 of 100 thousand, three rounds")
    rows, count, rounds = (20_000, 8, 1) if given.quick else (100_000, 16, 3)
    section = TrainSpec.model_validate({"trainers": {"xgboost": {
        "trials": count, "options": {"rounds": 100, "patience": 0}, "space": {"max_depth": {"integers": [4, 6]}},
    }}})  # fmt: skip
    train, valid = _rows(rows, 0), _rows(rows // 5, 1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RAYMLOPS_HOME"] = folder
        running = cluster.start(cpus=2, tied=True)
        try:
            ours, bare = _rounds(running, trials(section), train, valid, Path(folder), rounds)
        finally:
            cluster.stop(running)
    ideal = median(bare) / 2
    lines = [Line(
        what=f"sweep of {count} XGBoost trials, {rows:,} rows, 2 CPUs; rival: the bare loop ÷ 2", unit="s",
        ours=median(ours), rival=ideal, ratio=ideal / median(ours), bar=0.3,
    )]  # fmt: skip
    return print_lines(lines, as_json=given.json)


def _rounds(
    running: cluster.LocalCluster, tried: list[Trial], train: Examples, valid: Examples, folder: Path, rounds: int
) -> tuple[list[float], list[float]]:
    from raymlops.cluster.on_ray import connect
    from raymlops.train.on_ray import run_trials

    contract = _contract()

    def setting(name: str) -> Setting:
        return Setting(train=train, valid=valid, contract=contract, sweep=folder / name, threads=1, stop_early=False)

    ours, bare = [], []
    with connect(running):
        for turn in range(rounds):
            start = time.perf_counter()
            run_trials(tried, setting(f"ours-{turn}"), ended=lambda index, cause: None)
            ours.append(time.perf_counter() - start)
            start = time.perf_counter()
            for trial in tried:
                run_trial(trial, setting(f"bare-{turn}"))
            bare.append(time.perf_counter() - start)
    return ours, bare


def _contract() -> Contract:
    features = tuple(Feature(name=f"f{i}", type="number", nullable=False) for i in range(FEATURES))
    return Contract(features=features, label=Label(name="y", task="binary", classes=("0", "1")))


def _rows(rows: int, seed: int) -> Examples:
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, FEATURES)).astype(np.float32)
    return Examples(x=x, y=(x[:, 0] * x[:, 1] + random.normal(size=rows) > 0).astype(np.float64))


if __name__ == "__main__":
    sys.exit(main())
