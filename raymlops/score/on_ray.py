"""Spread the pieces of a batch run over a Ray cluster: one Ray Data operator, only counts cross the object store.

Tasks, not actors: the processes that a cluster keeps ready take them at once, and each process keeps the engine that
it has loaded, so that the second piece finds it warm. An actor pool of the same size needed three seconds more.
"""

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import orjson
import ray
from ray.data import DataContext, TaskPoolStrategy
from ray.exceptions import RayError, RayTaskError

from raymlops.codec import dumps
from raymlops.errors import RaymlopsError, StageFailed, Unavailable
from raymlops.score.ledger import PieceCount
from raymlops.score.piece import Plan, Scorer
from raymlops.spec import home
from raymlops.telemetry import say
from raymlops.values import Piece

__all__ = ["score_pieces"]

_RETRIES = 3  # of a piece whose process or node died; Ray Data's own default is for ever


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """What a process needs beside the piece; a relative path means the same there as in the driver."""

    plan: Plan
    place: str
    home: str


def score_pieces(plan: Plan, pieces: Sequence[tuple[int, Piece]], *, workers: int | None) -> Iterator[PieceCount]:
    """Yield the count of each piece as it is done, in any order.

    Never more tasks at once than the cluster has CPUs for: Ray Data would wait for them without a word.
    """
    cpus = int(ray.cluster_resources().get("CPU", 0))
    if cpus < plan.threads:
        raise Unavailable(f"score: a worker needs {plan.threads} CPU, the cluster has {cpus}")
    _say_what_fits(workers, cpus, plan.threads)
    job = _Job(plan=plan, place=os.getcwd(), home=str(home()))
    size = max(1, min(workers or cpus, len(pieces), cpus // plan.threads))
    # While Ray Data makes its plan, the processes load what every piece needs.
    warm = ray.remote(num_cpus=plan.threads)(_warm)
    warming = [warm.remote(job) for _ in range(size)]
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what goes wrong is raised, with its cause
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True
    items = [{"index": index, "piece": dumps(asdict(piece)).decode()} for index, piece in pieces]
    counts = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        partial(_work, job), batch_size=1, num_cpus=plan.threads, compute=TaskPoolStrategy(size=size),
        max_retries=_RETRIES,
    )  # fmt: skip
    try:
        for row in counts.iter_rows():
            yield PieceCount.from_json(row["count"])
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, RaymlopsError):
            raise cause from None
        raise StageFailed(f"score: a worker failed: {type(cause).__name__}: {cause}") from error
    except RayError as error:
        raise StageFailed(f"score: {type(error).__name__}: {str(error).splitlines()[0]}") from error
    del warming


def _say_what_fits(workers: int | None, cpus: int, threads: int) -> None:
    if workers is not None and workers > cpus // threads:
        say(f"score: score.workers: {workers} asked, {cpus // threads} fit the {cpus} CPUs of the cluster and are used")
    free = int(ray.available_resources().get("CPU", 0))
    if free < threads:
        say(f"score: {cpus - free} of {cpus} CPUs of the cluster are taken by other work; waiting until one is free")


_scorers: dict[str, Scorer] = {}


def _work(job: _Job, batch: dict[str, Any]) -> dict[str, Any]:
    scorer = _scorer(job)
    pieces = zip(batch["index"], batch["piece"], strict=True)
    counts = [scorer.score(int(index), Piece(**orjson.loads(piece))) for index, piece in pieces]
    return {"count": [count.to_json().decode() for count in counts]}


def _warm(job: _Job) -> None:
    # What is wrong with the engine is said by the first piece, not here.
    with suppress(Exception):
        _scorer(job).warm()


def _scorer(job: _Job) -> Scorer:
    """Return the scorer of the run, made once a process; that of another run makes room for it."""
    if job.plan.run not in _scorers:
        with suppress(FileNotFoundError):  # elsewhere Ray has set the folder
            os.chdir(job.place)
        os.environ["RAYMLOPS_HOME"] = job.home
        _spare_scikit_learn()
        _scorers.clear()
        _scorers[job.plan.run] = Scorer(job.plan)
    return _scorers[job.plan.run]


def _spare_scikit_learn() -> None:
    """Import xgboost without the estimators that it makes of scikit-learn: a second less of each process's start."""
    if "sklearn" in sys.modules or "xgboost" in sys.modules:
        return
    sys.modules["sklearn"] = None  # type: ignore[assignment]  # an import of it fails until it is taken out again
    try:
        import xgboost  # noqa: F401
    finally:
        del sys.modules["sklearn"]
