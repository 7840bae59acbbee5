"""What of the scoring benchmark runs on Ray or in a driver, each as a whole program that prints its measures as JSON.

    python benchmarks/score_ours.py ours SPEC | memory SPEC | documented MODEL ROWS OUT | driver SPEC | tasks COUNT

Seconds count "after start": from a connected cluster and a driver with its modules imported, as those of a floor
count from a loaded model. A cluster of the home that is up is used, else one of 2 CPUs lives as long as the
program.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import islice
from pathlib import Path
from threading import Event, Thread
from types import ModuleType
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
from score_rivals import FEATURES

from raymlops import cluster, registry, score
from raymlops.cluster.on_ray import connect
from raymlops.score.ledger import PieceCount
from raymlops.score.piece import Plan, Scorer
from raymlops.spec import Spec, load
from raymlops.values import Piece

__all__: list[str] = []
_EVERY_S = 0.1
Measures = dict[str, float]


def ours(spec: str) -> Measures:
    """Score a spec."""
    loaded = _loaded(spec)
    with _connected():
        return _timed(lambda: score.run(loaded))


def memory(spec: str) -> Measures:
    """Score a spec and look at the memory meanwhile: of this driver and of every process of its cluster."""
    loaded = _loaded(spec)
    with _connected() as running, _peak(running.marker) as peak:
        taken = _timed(lambda: score.run(loaded))
    return {**taken, "bytes": max(peak)}


def documented(model: str, rows: str, out: str) -> Measures:
    """Score by Ray Data as its documentation shows it: `read_parquet → map_batches(actor pool) → write_parquet`."""
    import ray.data

    class Predictor:
        def __init__(self) -> None:
            import xgboost

            self.booster = xgboost.Booster(model_file=model)
            self.booster.set_param({"nthread": 1})

        def __call__(self, batch: pa.Table) -> pa.Table:
            x = np.column_stack([batch.column(name).to_numpy() for name in FEATURES])
            return pa.table({"id": batch.column("id"), "probability": self.booster.inplace_predict(x)})

    def run() -> None:
        pool = ray.data.ActorPoolStrategy(size=1)  # two would hold both CPUs, and leave none to read with
        read = ray.data.read_parquet(rows, columns=["id", *FEATURES])
        answered = read.map_batches(Predictor, batch_format="pyarrow", batch_size=65_536, compute=pool, num_cpus=1)
        answered.write_parquet(out)

    with _connected():
        return _timed(run)


def driver(spec: str) -> Measures:
    """Score a spec without Ray, one piece after another in this process, whose part of the time is left out.

    What remains is what a driver does for a cluster of any size: list and plan, account, record, commit.
    """
    stand_in = _InThisProcess()
    module: Any = ModuleType("raymlops.score.on_ray")
    module.score_pieces = stand_in.score_pieces
    sys.modules[module.__name__] = module
    loaded = _loaded(spec)
    cpu, taken = time.process_time(), _timed(lambda: score.run(loaded))
    cpu = time.process_time() - cpu - stand_in.cpu
    return {"seconds": taken["seconds"] - stand_in.seconds, "cpu": cpu, "pieces": stand_in.pieces}


class _InThisProcess:
    """Stands where `raymlops.score.on_ray` does, and keeps the time that it takes itself."""

    def __init__(self) -> None:
        self.seconds, self.cpu, self.pieces = 0.0, 0.0, 0

    def score_pieces(self, plan: Plan, pieces: Sequence[tuple[int, Piece]], **_: object) -> Iterator[PieceCount]:
        scorer = Scorer(plan)
        for index, piece in pieces:
            start, cpu = time.perf_counter(), time.process_time()
            count = scorer.score(index, piece)
            self.pieces += 1
            self.seconds += time.perf_counter() - start
            self.cpu += time.process_time() - cpu
            yield count


def tasks(count: str) -> Measures:
    """Run as many tasks of Ray Data that do nothing; `cpu` is that of this driver."""
    import ray.data

    def run() -> None:
        rows = ray.data.range(int(count), override_num_blocks=int(count))
        pool = ray.data.TaskPoolStrategy(size=2)
        assert sum(1 for _ in rows.map_batches(lambda batch: batch, compute=pool).iter_rows()) == int(count)

    with _connected():
        ray.data.DataContext.get_current().enable_progress_bars = False
        cpu, taken = time.process_time(), _timed(run)
        return {**taken, "cpu": time.process_time() - cpu, "pieces": int(count)}


def plain(count: str) -> Measures:
    """Run as many plain tasks that do nothing, two ahead for each CPU as score does; `cpu` is that of this driver."""
    import ray

    work = ray.remote(num_cpus=1)(lambda index: str(index))

    def run() -> None:
        left = iter(range(int(count)))
        running = [work.remote(index) for index in islice(left, 4)]
        while running:
            (ended,), running = ray.wait(running)
            ray.get(ended)
            running += [work.remote(index) for index in islice(left, 1)]

    with _connected():
        cpu, taken = time.process_time(), _timed(run)
        return {**taken, "cpu": time.process_time() - cpu, "pieces": int(count)}


def _loaded(spec: str) -> Spec:
    loaded = load(Path(spec))
    registry.resolve(loaded.name)
    import_module("raymlops.score.on_ray")
    return loaded


@contextmanager
def _connected() -> Iterator[cluster.LocalCluster]:
    there = cluster.attached()
    running = there or cluster.start(cpus=2, tied=True)
    try:
        with connect(running):
            yield running
    finally:
        if there is None:
            cluster.stop(running)


def _timed(call: Callable[[], object]) -> Measures:
    start = time.perf_counter()
    call()
    return {"seconds": time.perf_counter() - start}


@contextmanager
def _peak(marker: str) -> Iterator[list[int]]:
    """Give a list that grows by a look at the memory each tenth of a second."""
    seen, ended, own = [0], Event(), psutil.Process()

    def look() -> None:
        while not ended.wait(_EVERY_S):
            seen.append(cluster.memory_bytes(marker) + own.memory_full_info().pss)

    thread = Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


PROGRAMS: dict[str, Callable[..., Measures]] = {
    "ours": ours, "memory": memory, "documented": documented, "driver": driver, "tasks": tasks, "plain": plain
}  # fmt: skip

if __name__ == "__main__":
    print(json.dumps(PROGRAMS[sys.argv[1]](*sys.argv[2:])))
