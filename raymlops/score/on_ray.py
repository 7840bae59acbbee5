"""Spread the pieces of a batch run over a Ray cluster, so that only their counts cross the object store.

Plain tasks do what a few rounds over the cluster's CPUs can do. A longer run is one operator of Ray Data, whose
autoscaler asks for nodes and whose dashboard shows it: to start, it needs two actors of its own, and its driver takes
twenty times as long for a task (benchmarks/score.py, driver). Either way a process keeps the engine that it has loaded.
"""

import logging
import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import orjson
import ray
from ray.exceptions import RayError, RayTaskError

from raymlops.codec import dumps
from raymlops.errors import RaymlopsError, StageFailed, Unavailable
from raymlops.score.ledger import PieceCount
from raymlops.score.piece import Plan, Scorer
from raymlops.score.warm import import_xgboost
from raymlops.spec import home
from raymlops.telemetry import say
from raymlops.values import Piece

__all__ = ["score_pieces"]

_ROUNDS = 64  # pieces a process up to which tasks are quicker than starting Ray Data
_RETRIES = 3  # of a piece whose process or node died; Ray Data's own default is for ever
_AHEAD = 2  # tasks a process that Ray knows of, so that none waits for the driver

Numbered = tuple[int, Piece]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """What a process needs beside the piece; a relative path means the same there as in the driver."""

    plan: Plan
    place: str
    home: str


def score_pieces(plan: Plan, pieces: Sequence[Numbered], *, workers: int | None) -> Iterator[PieceCount]:
    """Yield the count of each piece as it is done, in any order.

    Never more at once than the cluster has CPUs for. Raise what the scoring of a piece raised; StageFailed when
    processes or nodes died more often than Ray tries again; Unavailable when no process fits the cluster.
    """
    cpus = int(ray.cluster_resources().get("CPU", 0))
    if cpus < plan.threads:
        raise Unavailable(f"score: a worker needs {plan.threads} CPU, the cluster has {cpus}")
    _say_what_fits(workers, cpus, plan.threads)
    job = _Job(plan=plan, place=os.getcwd(), home=str(home()))
    size = max(1, min(workers or cpus, len(pieces), cpus // plan.threads))
    # Where CPUs are to be left to others, a task that is ahead of its turn would take one of them.
    at_once = size * _AHEAD if size == cpus // plan.threads else size
    spread = _dataset(job, pieces, size) if len(pieces) > _ROUNDS * size else _tasks(job, pieces, at_once)
    try:
        yield from spread
    except RayTaskError as error:
        if isinstance(error.cause, RaymlopsError):
            raise error.cause from None
        raise StageFailed(f"score: a worker failed: {type(error.cause).__name__}: {error.cause}") from error
    except RayError as error:
        raise StageFailed(f"score: {type(error).__name__}: {str(error).splitlines()[0]}") from error


def _say_what_fits(workers: int | None, cpus: int, threads: int) -> None:
    if workers is not None and workers > cpus // threads:
        say(f"score: score.workers: {workers} asked, {cpus // threads} fit the {cpus} CPUs of the cluster and are used")
    free = int(ray.available_resources().get("CPU", 0))
    if free < threads:
        say(f"score: {cpus - free} of {cpus} CPUs of the cluster are taken by other work; waiting until one is free")


def _tasks(job: _Job, pieces: Sequence[Numbered], at_once: int) -> Iterator[PieceCount]:
    work = ray.remote(num_cpus=job.plan.threads, max_retries=_RETRIES)(_score)
    held, left = ray.put(job), deque(pieces)
    running = [work.remote(held, *left.popleft()) for _ in range(min(len(left), at_once))]
    try:
        while running:
            (ended,), running = ray.wait(running)
            count = PieceCount.from_json(ray.get(ended))
            if left:
                running.append(work.remote(held, *left.popleft()))
            yield count
    finally:
        for task in running:
            ray.cancel(task)


def _dataset(job: _Job, pieces: Sequence[Numbered], size: int) -> Iterator[PieceCount]:
    # Imported where it is needed: half a second in every process of a run that does without.
    from ray.data import DataContext, TaskPoolStrategy, from_items

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what goes wrong is raised, with its cause
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True
    items = [{"index": index, "piece": dumps(asdict(piece)).decode()} for index, piece in pieces]
    counts = from_items(items, override_num_blocks=len(items)).map_batches(
        partial(_score_batch, job), batch_size=1, num_cpus=job.plan.threads, compute=TaskPoolStrategy(size=size),
        max_retries=_RETRIES,
    )  # fmt: skip
    for row in counts.iter_rows():
        yield PieceCount.from_json(row["count"])


def _score_batch(job: _Job, batch: dict[str, Any]) -> dict[str, Any]:
    pieces = zip(batch["index"], batch["piece"], strict=True)
    return {"count": [_score(job, int(index), Piece(**orjson.loads(piece))) for index, piece in pieces]}


_scorers: dict[str, Scorer] = {}


def _score(job: _Job, index: int, piece: Piece) -> str:
    return _scorer(job).score(index, piece).to_json().decode()


def _scorer(job: _Job) -> Scorer:
    """Return the scorer of the run, made once a process; that of another run makes room for it."""
    if job.plan.run not in _scorers:
        with suppress(FileNotFoundError):  # elsewhere Ray has set the folder
            os.chdir(job.place)
        os.environ["RAYMLOPS_HOME"] = job.home
        import_xgboost()
        _scorers.clear()
        _scorers[job.plan.run] = Scorer(job.plan)
    return _scorers[job.plan.run]
