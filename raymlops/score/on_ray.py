"""Spread the pieces of a batch run over a Ray cluster, so that only their counts cross the object store.

On CPUs a piece is a task, and Ray sends it to whatever process is free, on nodes that join meanwhile too. An engine
that holds a GPU is an actor that keeps the device Ray gave it. Either way a process keeps the engine it has loaded.
"""

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from raymlops.engine.formats.xgboost import import_xgboost
from raymlops.errors import RaymlopsError, StageFailed, Unavailable
from raymlops.score.ledger import PieceCount
from raymlops.score.piece import Plan, Scorer
from raymlops.spec import home_variables
from raymlops.telemetry import say
from raymlops.values import Piece

__all__ = ["score_pieces"]

_RETRIES = 3  # of a piece whose process or node died
_AHEAD = 2  # pieces a process that Ray knows of, so that none waits for the driver, and Ray's autoscaler sees a need
_LOOK_EVERY_S = 5.0  # for nodes that joined or left

Numbered = tuple[int, Piece]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """What a process needs beside the piece; a relative path means the same there as in the driver."""

    plan: Plan
    place: str
    variables: dict[str, str]


def score_pieces(plan: Plan, pieces: Sequence[Numbered], *, workers: int | None) -> Iterator[PieceCount]:
    """Yield the count of each piece as it is done, in any order.

    Never more at once than the cluster has CPUs, or GPUs, for. Raise what the scoring of a piece raised; StageFailed
    when processes or nodes died more often than Ray tries again; Unavailable when no process fits the cluster.
    """
    fit = _fitting(plan)
    if not fit:
        needs = f"{plan.gpus:g} GPU and {plan.threads} CPU" if plan.gpus else f"{plan.threads} CPU"
        has = ", ".join(f"{ray.cluster_resources().get(name, 0):g} {name}" for name in ("CPU", "GPU"))
        raise Unavailable(f"score: a worker needs {needs}, the cluster has {has}")
    _say_what_fits(workers, fit, plan.threads)
    job = _Job(plan=plan, place=os.getcwd(), variables=home_variables())
    try:
        yield from _by_actors(job, pieces, workers) if plan.gpus else _by_tasks(job, pieces, workers)
    except RayTaskError as error:
        if isinstance(error.cause, RaymlopsError):
            raise error.cause from None
        raise StageFailed(f"score: a worker failed: {type(error.cause).__name__}: {error.cause}") from error
    except RayError as error:
        raise StageFailed(f"score: {type(error).__name__}: {str(error).splitlines()[0]}") from error


def _fitting(plan: Plan) -> int:
    """Return how many workers the cluster as it is now has room for."""
    has = ray.cluster_resources()
    fit = int(has.get("CPU", 0)) // plan.threads
    return min(fit, int(has.get("GPU", 0) / plan.gpus)) if plan.gpus else fit


def _say_what_fits(workers: int | None, fit: int, threads: int) -> None:
    if workers is not None and workers > fit:
        say(f"score: score.workers: {workers} asked, {fit} fit the cluster and are used")
    cpus, free = (int(found.get("CPU", 0)) for found in (ray.cluster_resources(), ray.available_resources()))
    if free < threads:
        say(f"score: {cpus - free} of {cpus} CPUs of the cluster are taken by other work; waiting until one is free")


def _by_tasks(job: _Job, pieces: Sequence[Numbered], workers: int | None) -> Iterator[PieceCount]:
    work = ray.remote(num_cpus=job.plan.threads, max_retries=_RETRIES)(_score)
    held, left, running = ray.put(job), deque(pieces), list[Any]()
    at_once, looked = _at_once(job.plan, workers), time.monotonic()
    try:
        while left or running:
            while left and len(running) < at_once:
                running.append(work.remote(held, *left.popleft()))
            (ended,), running = ray.wait(running)
            count = PieceCount.from_json(ray.get(ended))
            if left:
                running.append(work.remote(held, *left.popleft()))
            if time.monotonic() - looked > _LOOK_EVERY_S:
                at_once, looked = _at_once(job.plan, workers), time.monotonic()
            yield count
    finally:
        for task in running:
            ray.cancel(task)


def _at_once(plan: Plan, workers: int | None) -> int:
    fit = max(1, _fitting(plan))  # 0 for the moment in which the only node is away
    # Where CPUs are to be left to others, a task that is ahead of its turn would take one of them.
    return workers if workers is not None and workers < fit else fit * _AHEAD


def _by_actors(job: _Job, pieces: Sequence[Numbered], workers: int | None) -> Iterator[PieceCount]:
    kind = ray.remote(
        num_cpus=job.plan.threads, num_gpus=job.plan.gpus, max_restarts=_RETRIES, max_task_retries=_RETRIES
    )(_Worker)
    size = min(workers or len(pieces), len(pieces), _fitting(job.plan))
    pool, left = [kind.remote(ray.put(job)) for _ in range(size)], deque(pieces)
    running = {worker.score.remote(*left.popleft()): worker for worker in pool}
    try:
        while running:
            (ended,), _ = ray.wait([*running])
            worker = running.pop(ended)
            count = PieceCount.from_json(ray.get(ended))
            if left:
                running[worker.score.remote(*left.popleft())] = worker
            yield count
    finally:
        for worker in pool:
            ray.kill(worker)


class _Worker:
    """A process that holds a GPU, or a share of one, for the run."""

    def __init__(self, job: _Job) -> None:
        self._job = job

    def score(self, index: int, piece: Piece) -> str:
        return _score(self._job, index, piece)


_scorers: dict[str, Scorer] = {}


def _score(job: _Job, index: int, piece: Piece) -> str:
    return _scorer(job).score(index, piece).to_json().decode()


def _scorer(job: _Job) -> Scorer:
    """Return the scorer of the run, made once a process; that of another run makes room for it."""
    if job.plan.run not in _scorers:
        with suppress(FileNotFoundError):  # elsewhere Ray has set the folder
            os.chdir(job.place)
        os.environ |= job.variables
        import_xgboost()
        _scorers.clear()
        _scorers[job.plan.run] = Scorer(job.plan)
    return _scorers[job.plan.run]
