"""Fits that two workers make together: by `train.workers`, by Ray's XGBoostTrainer, and by one process alone.

Each worker of Ray's trainer reads the same share of the rows as one of ours, and makes the same model.
"""

import json
import multiprocessing
import resource
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from line import Line

from raymlops.contract import Contract
from raymlops.data import examples, infer_contract
from raymlops.spec import Spec, parse
from raymlops.stats import metric_value
from raymlops.train import Trial, first_batch
from raymlops.train.fit import Setting, fit
from raymlops.train.loop import Runner, run_sweep
from raymlops.train.spread import no_rows, spread_of
from raymlops.train.sweep import trainer_of

__all__ = ["spread_lines"]

_ROUNDS = 50  # trees
_FEATURES = 28
_LOOK_S = 0.05
_GIB = 2.0**30


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    spec: Spec
    contract: Contract
    setting: Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cost:
    """Seconds from asking for the first process to the last model, those of fits, and most memory of a process."""

    whole_s: float
    fits_s: float
    gib: float
    scores: list[float]


def spread_lines(folder: Path, *, quick: bool) -> list[Line]:
    """Measure on a cluster that is up; rounds are interleaved, and the median counts."""
    rows, fits = (200_000, 2) if quick else (1_000_000, 3)
    work = _work(folder, rows=rows, fits=fits)
    taken: dict[str, list[_Cost]] = {"ours": [], "ray": [], "alone": []}
    for turn in range(1 if quick else 3):
        found = {"ours": _ours(work, turn), "ray": _ray(work, turn), "alone": _alone(work)}
        assert np.allclose(found["ours"].scores, found["ray"].scores, atol=1e-6), "they do not do the same"
        for way, cost in found.items():
            taken[way].append(cost)
    whole = {way: median(cost.whole_s for cost in costs) for way, costs in taken.items()}
    each = {way: median(cost.fits_s for cost in costs) for way, costs in taken.items()}
    most = {way: median(cost.gib for cost in costs) for way, costs in taken.items()}
    what = f"{fits} fits of {_ROUNDS} trees to {rows:,} rows × {_FEATURES} by 2 workers with a CPU each"
    return [
        _line(f"{what}; rival: Ray's XGBoostTrainer", "s", whole["ours"], whole["ray"], 1),
        _line(f"{what}, the fits alone; rival: one process with one CPU", "s", each["ours"], each["alone"], 0),
        _line(f"{what}, most memory of a worker; rival: of Ray's trainer's", "GiB", most["ours"], most["ray"], 0),
        _line(f"{what}, most memory of a worker; rival: of one process", "GiB", most["ours"], most["alone"], 0),
    ]


def _line(what: str, unit: str, mine: float, other: float, bar: float) -> Line:
    return Line(what=what, unit=unit, ours=mine, rival=other, ratio=other / mine, bar=bar)


def _work(folder: Path, *, rows: int, fits: int) -> _Work:
    path, random = folder / "wide.parquet", np.random.default_rng(0)
    parts = [_part(random, start, min(250_000, rows - start)) for start in range(0, rows, 250_000)]
    pq.write_table(pa.concat_tables(parts), path, row_group_size=250_000)
    spec = parse(
        f"name: wide\ndata: {{source: {{parquet: {path}}}, label: y, key: [id], "
        "windows: {train: 0.98, valid: 0.02}}\ntrain: {workers: 2, trainers: {xgboost: "
        f"{{trials: {fits}, options: {{rounds: {_ROUNDS}, patience: 0}}, "
        "space: {max_depth: {integers: [4, 8]}}}}}"
    )
    contract = infer_contract(spec, on="train")
    setting = Setting(
        train=no_rows(contract),
        valid=examples(spec, on="valid", contract=contract),
        contract=contract,
        sweep=folder / "spread",
        threads=1,
        stop_early=False,
    )
    return _Work(spec=spec, contract=contract, setting=setting)


def _part(random: np.random.Generator, start: int, rows: int) -> pa.Table:
    x = random.normal(size=(rows, _FEATURES)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] + x[:, 2] + random.normal(size=rows) > 0).astype(np.int64)
    return pa.table({**{f"f{j}": x[:, j] for j in range(_FEATURES)}, "y": y, "id": np.arange(start, start + rows)})


def _ours(work: _Work, turn: int) -> _Cost:
    from raymlops.train.gang.on_ray import gang

    setting = replace(work.setting, sweep=work.setting.sweep / f"ours-{turn}")
    begun = time.perf_counter()
    with (
        _most_memory() as most,
        Runner(
            sweep=setting.sweep,
            setting=lambda: setting,
            hire=lambda: gang(setting, spread_of(work.spec, on="train", contract=work.contract)),
            heard=lambda result: None,
            here=False,
        ) as runner,
    ):
        results = run_sweep(work.spec.train, "auc", runner)
        whole_s = time.perf_counter() - begun
    return _Cost(
        whole_s=whole_s,
        fits_s=sum(result.seconds for result in results),
        gib=most(),
        scores=[result.metrics["auc"] for result in results],
    )


def _ray(work: _Work, turn: int) -> _Cost:
    """Give each fit a trainer of its own, as Ray's tutorial does."""
    from ray import train
    from ray.train.xgboost import XGBoostTrainer

    begun = time.perf_counter()
    spread, setting = spread_of(work.spec, on="train", contract=work.contract), work.setting

    def loop(config: dict[str, Any]) -> None:
        import xgboost

        rows = spread.of(train.get_context().get_world_rank(), setting).train
        start = time.perf_counter()
        booster = xgboost.train(
            config["settings"], xgboost.DMatrix(rows.x, rows.y, nthread=1), _ROUNDS, verbose_eval=False
        )
        auc = metric_value("auc", setting.valid.y, booster.inplace_predict(setting.valid.x))
        if train.get_context().get_world_rank() == 0:  # metrics without a checkpoint are not in the trainer's result
            Path(config["told"]).write_text(json.dumps({"auc": auc, "seconds": time.perf_counter() - start}))

    found, told = [], setting.sweep / "told.json"
    setting.sweep.mkdir(parents=True, exist_ok=True)
    with _most_memory() as most:
        for trial in first_batch(work.spec.train):
            trainer = XGBoostTrainer(
                loop,
                train_loop_config={"settings": _settings(trial), "told": str(told)},
                scaling_config=train.ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1}),
                run_config=train.RunConfig(storage_path=str(setting.sweep / f"ray-{turn}"), name=str(trial.index)),
            )
            trainer.fit()
            found.append(json.loads(told.read_text()))
        whole_s = time.perf_counter() - begun
    fits_s = sum(metrics["seconds"] for metrics in found)
    return _Cost(whole_s=whole_s, fits_s=fits_s, gib=most(), scores=[metrics["auc"] for metrics in found])


def _settings(trial: Trial) -> dict[str, Any]:
    depth = trial.options["max_depth"]
    return {"objective": "binary:logistic", "tree_method": "hist", "max_depth": depth, "learning_rate": 0.1,
            "seed": trial.seed, "nthread": 1, "verbosity": 0}  # fmt: skip


def _alone(work: _Work) -> _Cost:
    begun = time.perf_counter()
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        fits_s, gib = process.submit(_fit_all, work).result()
    return _Cost(whole_s=time.perf_counter() - begun, fits_s=fits_s, gib=gib, scores=[])


def _fit_all(work: _Work) -> tuple[float, float]:
    setting = replace(work.setting, train=examples(work.spec, on="train", contract=work.contract))
    begun = time.perf_counter()
    for trial in first_batch(work.spec.train):
        fit(trainer_of(trial), setting.train, None, setting, seed=trial.seed)
    return time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _GIB


@contextmanager
def _most_memory() -> Iterator[Callable[[], float]]:
    """Look at the workers of Ray Train as they run; what is given says how many GiB one of them held at most."""
    most, over = 0, threading.Event()

    def look() -> None:
        nonlocal most
        while not over.wait(_LOOK_S):
            for process in psutil.process_iter():
                try:
                    if "RayTrainWorker" in " ".join(process.cmdline()):
                        most = max(most, process.memory_info().rss)
                except psutil.Error:
                    continue

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield lambda: most / _GIB
    finally:
        over.set()
        thread.join()
