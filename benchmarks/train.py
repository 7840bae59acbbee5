"""A sweep against the bare loop over the same trials and against stock Ray Tune, side by side.

    python benchmarks/train.py [--quick] [--only PART …] [--json]

Parts: flights (64 XGBoost trials on the real flights), trivial (500 trials of a few milliseconds), newer (what the ways
to renew a version of January to May give in November and December; told, for the flights decide it), spread (fits that
two workers make together, `train_spread.py`).

Ours is `run_sweep` with its workers, from asking for them to the last result, on a cluster that is up. The bare loop is
Optuna's, over the same configurations, one after the other in this process; with two cores the ideal is half its time.
Stock Ray Tune runs a function for each configuration, as its tutorial shows. Rounds are interleaved, the median counts.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from line import Line, parser, print_lines
from train_spread import spread_lines

from raymlops import cluster, registry, train
from raymlops.cluster.on_ray import connect
from raymlops.contract import Contract
from raymlops.data import examples, infer_contract, prepare, read_contract
from raymlops.engine import predictor
from raymlops.spec import TrainSpec, load
from raymlops.stats import metric_value
from raymlops.train import Trial, first_batch
from raymlops.train.fit import Setting
from raymlops.train.loop import Runner, run_sweep
from raymlops.train.sweep import trainer_of
from raymlops.values import Renewal

REPOSITORY = Path(__file__).parent.parent
SPACE = {"max_depth": {"integers": [4, 8]}, "learning_rate": {"log": [0.04, 0.2]}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """The trials of a section, and the rows that they are fitted to."""

    section: TrainSpec
    setting: Setting

    @property
    def trials(self) -> Sequence[Trial]:
        """Return them all: a random search does not look back."""
        return first_batch(self.section)


def main() -> int:
    """Measure and print; exit 1 when a bar is missed."""
    words = parser(__doc__, quick="16 and 100 trials, one round; not 64 and 500, three rounds")
    words.add_argument("--only", nargs="+", metavar="PART", choices=PARTS, help="only these parts")
    given = words.parse_args()
    missed = 0
    with tempfile.TemporaryDirectory(prefix="rmb-") as folder:
        os.environ["RAYMLOPS_HOME"] = folder
        os.chdir(REPOSITORY)
        running = cluster.start(cpus=2)
        try:
            with connect(running):
                for part in given.only or PARTS:
                    missed |= print_lines(PARTS[part](Path(folder), quick=given.quick), as_json=given.json)
        finally:
            cluster.stop(running)
    return missed


def _flights(folder: Path, *, quick: bool) -> list[Line]:
    count = 16 if quick else 64
    sweep = _sweep(folder / "flights", {"trials": count, "options": {"rounds": 100, "patience": 0}, "space": SPACE})
    taken = _rounds({"ours": _ours, "bare": _bare, "tune": _tune}, sweep, rounds=1 if quick else 3)
    what = f"{count} XGBoost trials on {len(sweep.setting.train.y):,} flights, 2 CPUs"
    ideal = taken["bare"] / 2
    return [
        _line(f"{what}; rival: Optuna's loop over them ÷ 2", "s", taken["ours"], ideal, 1 / 1.15),
        _line(f"{what}; rival: stock Ray Tune", "s", taken["ours"], taken["tune"], 1.3),
    ]


def _trivial(folder: Path, *, quick: bool) -> list[Line]:
    count = 100 if quick else 500
    sweep = _sweep(folder / "trivial", {"trials": count, "options": {"rounds": 1, "patience": 0}, "space": SPACE}, 500)
    taken = _rounds({"ours": _ours, "bare": _bare}, sweep, rounds=1 if quick else 3)
    each = (taken["ours"] - taken["bare"] / 2) / count * 1e3
    what = f"what a trial of {taken['bare'] / count * 1e3:.1f} ms costs beside, {count} of them; rival: the limit"
    return [_line(what, "ms", each, 50, 1)]


def _newer(folder: Path, *, quick: bool) -> list[Line]:
    """Renew a version of January to May by the rows of July to October, each way, and judge on the two months after."""
    spec = load(REPOSITORY / "jobs" / "flights.yaml")
    rounds = 50 if quick else 200
    trainers = {"xgboost": {"options": {"rounds": rounds, "patience": 0}}, "pytorch": {"options": {"epochs": 3}}}
    section = TrainSpec.model_validate({**spec.train.model_dump(by_alias=True), "trainers": trainers, "repeat": False})
    spec = spec.model_copy(update={"train": section})
    swept: Any = train.run(spec)
    old, members = swept["model"], list(swept["versions"])
    contract = read_contract(registry.resolve(old).path)
    held = examples(spec, on="holdout", contract=contract)
    before = metric_value("auc", held.y, predictor(registry.resolve(old)).predict(held.x))
    ways: list[tuple[Renewal, str, list[str]]] = [
        ("again", "recent", []),
        ("again", "history", []),
        ("continue", "recent", []),
        ("adapt", "history", []),
        ("join", "recent", members),
    ]
    lines = []
    for how, on, others in ways:
        made: Any = train.run(spec, model=old, how=how, members=others, on=on, validate="holdout")
        after = float(made.get("value", before))
        kept = "" if made.get("kept", True) else ", not kept" if made["model"] is None else ", plain fit kept"
        what = f"AUC of November and December, {how} on {on}{kept}; rival: January to May"
        lines.append(Line(what=what, unit="", ours=after, rival=before, ratio=after / before, bar=0))
    return lines


def _sweep(folder: Path, body: dict[str, Any], rows: int | None = None) -> Sweep:
    section = TrainSpec.model_validate({"trainers": {"xgboost": body}})
    spec = load(REPOSITORY / "jobs" / "flights.yaml")
    prepare(spec)
    contract: Contract = infer_contract(spec, on="train")
    fitted, valid = (examples(spec, on=on, contract=contract, limit=rows) for on in ("train", "valid"))
    setting = Setting(train=fitted, valid=valid, contract=contract, sweep=folder, threads=1, stop_early=False)
    return Sweep(section=section, setting=setting)


def _rounds(ways: dict[str, Callable[[Sweep, int], list[float]]], sweep: Sweep, *, rounds: int) -> dict[str, float]:
    """Return the median seconds of each way, which must all come to the same scores."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    scores: list[list[float]] = []
    for turn in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            scores.append(way(sweep, turn))
            taken[name].append(time.perf_counter() - start)
            print(f"round {turn + 1}, {name}: {taken[name][-1]:.1f} s", file=sys.stderr, flush=True)
    assert all(np.allclose(found, scores[0], atol=1e-6) for found in scores), "the ways do not do the same"
    return {name: median(seconds) for name, seconds in taken.items()}


def _ours(sweep: Sweep, turn: int) -> list[float]:
    from dataclasses import replace

    from raymlops.train.on_ray import pool

    setting = replace(sweep.setting, sweep=sweep.setting.sweep / f"{turn}")
    hire = partial(pool, setting, trials=len(sweep.trials))
    with Runner(sweep=setting.sweep, setting=lambda: setting, hire=hire, heard=lambda result: None) as runner:
        return [result.metrics["auc"] for result in run_sweep(sweep.section, "auc", runner)]


def _score(trial: Trial, setting: Setting) -> float:
    """Fit and judge as a person would in a loop: nothing is written, the model in memory answers."""
    import xgboost
    from sklearn.metrics import roc_auc_score

    contract, train, valid = setting.contract, setting.train, setting.valid
    fitted = trainer_of(trial).fit(
        train, None, categories=contract.category_counts, task="binary", classes=2, seed=trial.seed, threads=1
    )
    booster = xgboost.Booster({"nthread": 1}, model_file=bytearray(fitted.files["model.ubj"]))
    return float(roc_auc_score(valid.y, booster.inplace_predict(valid.x)))


def _bare(sweep: Sweep, turn: int) -> list[float]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize")
    trials = sweep.trials
    study.optimize(lambda one: _score(trials[one.number], sweep.setting), n_trials=len(trials))
    return [float(one.value or 0) for one in study.trials]


def _tune(sweep: Sweep, turn: int) -> list[float]:
    from ray import tune

    def trainable(config: dict[str, int], trials: Sequence[Trial], setting: Setting) -> None:
        tune.report({"auc": _score(trials[config["number"]], setting)})

    trials = sweep.trials
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(trainable, trials=trials, setting=sweep.setting), {"cpu": 1}),
        param_space={"number": tune.grid_search(list(range(len(trials))))},
        run_config=tune.RunConfig(storage_path=str(sweep.setting.sweep / f"tune-{turn}"), verbose=0),
    )
    found = {result.config["number"]: result.metrics["auc"] for result in tuner.fit()}
    return [found[number] for number in range(len(trials))]


def _line(what: str, unit: str, mine: float, other: float, bar: float) -> Line:
    return Line(what=what, unit=unit, ours=mine, rival=other, ratio=other / mine, bar=bar)


PARTS: dict[str, Callable[..., list[Line]]] = {
    "flights": _flights,
    "trivial": _trivial,
    "newer": _newer,
    "spread": spread_lines,
}

if __name__ == "__main__":
    sys.exit(main())
