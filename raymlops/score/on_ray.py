"""Spread the pieces of a batch run over a Ray cluster: one Ray Data operator, only counts cross the object store."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import orjson
import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.exceptions import RayTaskError

from raymlops.codec import dumps
from raymlops.errors import RaymlopsError, StageFailed, Unavailable
from raymlops.score.piece import PieceCount, Plan, Scorer
from raymlops.spec import home
from raymlops.values import Piece

__all__ = ["score_pieces"]


def score_pieces(plan: Plan, pieces: Sequence[tuple[int, Piece]], *, workers: int) -> Iterator[PieceCount]:
    """Yield the count of each piece as it is done, in any order.

    The pool never asks for more CPUs than the cluster has: Ray Data would wait for them without a word.
    """
    cpus = int(ray.cluster_resources().get("CPU", 0))
    if cpus < plan.threads:
        raise Unavailable(f"score: a worker needs {plan.threads} CPU, the cluster has {cpus}")
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what goes wrong is raised, with its cause
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True
    items = [{"index": index, "piece": dumps(asdict(piece)).decode()} for index, piece in pieces]
    size = max(1, min(workers, len(items), cpus // plan.threads))
    counts = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        _worker_of(plan), batch_size=1, num_cpus=plan.threads, compute=ActorPoolStrategy(size=size)
    )
    try:
        for row in counts.iter_rows():
            yield PieceCount(**orjson.loads(row["count"]))
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, RaymlopsError):
            raise cause from None
        raise StageFailed(f"score: a worker failed: {type(cause).__name__}: {cause}") from error


def _worker_of(plan: Plan) -> type[Any]:
    """Return the class of the pool's actors; the plan is in its closure, so that a restarted actor has it too."""

    place, root = os.getcwd(), str(home())

    class Worker:
        def __init__(self) -> None:
            # A relative path of the spec means the same here as in the driver; elsewhere Ray has set the folder.
            with suppress(FileNotFoundError):
                os.chdir(place)
            os.environ["RAYMLOPS_HOME"] = root
            self.scorer = Scorer(plan)

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            pieces = zip(batch["index"], batch["piece"], strict=True)
            counts = [self.scorer.score(int(index), Piece(**orjson.loads(piece))) for index, piece in pieces]
            return {"count": [dumps(asdict(count)).decode() for count in counts]}

    return Worker
