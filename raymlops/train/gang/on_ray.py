"""Run the trials of a sweep one after the other, each fit spread over all workers, with Ray Train.

Ray Train places the workers, all of them or none, and starts all again when one is gone. They read their rows once, and
then take trials from a board. A process in which a fit raised ends, because neither XGBoost nor torch comes out of a
group that fell apart; the board is told before, so that of several causes the first one counts.
"""

import gc
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.train import FailureConfig, RunConfig, ScalingConfig, get_context
from ray.train.collective import broadcast_from_rank_zero
from ray.train.v2._internal.execution.callback import ControllerCallback
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from raymlops.engine.formats.xgboost import import_xgboost
from raymlops.errors import SpecError
from raymlops.spec import home_variables
from raymlops.telemetry import say
from raymlops.train.fit import Setting
from raymlops.train.on_ray import THREAD, Board, Pool
from raymlops.train.spread import Spread, fit_in_group
from raymlops.train.trial import failed, keep_model
from raymlops.values import Group

__all__ = ["gang"]

_CLOSE_S = 10.0  # for workers that wait for a trial to end; then what leads them is killed, and they with it
_KILL_S = 30.0
_ALL = 0  # the number under which the board knows the workers


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What each worker is given; ``place`` and ``variables`` are the driver's folder and environment."""

    board: Any
    setting: Setting
    spread: Spread
    place: str
    variables: dict[str, str]


class _Led(ControllerCallback):  # type: ignore[misc]
    """Tells the board which process starts and watches the workers, so that it can be ended."""

    def __init__(self, board: Any) -> None:
        self._board = board

    def after_controller_start(self, train_run_context: Any) -> None:
        self._board.led.remote(ray.get_runtime_context().current_actor)


@contextmanager
def gang(setting: Setting, spread: Spread) -> Iterator[Pool]:
    """Hold a worker for each share, with `setting.threads` CPUs and `setting.gpus` GPUs each."""
    logging.getLogger("ray.train").setLevel(logging.CRITICAL)  # of workers that die it prints traces; the board knows
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")  # in which a start, an end, a death is noticed
    size, needed = len(spread.shares), len(spread.shares) * setting.threads
    _check_room(needed, size)
    board = ray.remote(num_cpus=0)(Board).remote()
    work = _Work(board=board, setting=setting, spread=spread, place=os.getcwd(), variables=home_variables())
    trainer = DataParallelTrainer(
        _serve,
        train_loop_config={"work": work},
        scaling_config=ScalingConfig(
            num_workers=size,
            use_gpu=setting.gpus > 0,
            resources_per_worker={"CPU": setting.threads, **({"GPU": setting.gpus} if setting.gpus else {})},
        ),
        run_config=RunConfig(
            name="gang",
            storage_path=str(setting.sweep),
            failure_config=FailureConfig(max_failures=-1),
            callbacks=[_Led(board)],
        ),
    )
    thread = threading.Thread(target=_fit, args=[trainer, board], daemon=True, name=THREAD)
    thread.start()
    try:
        yield Pool(board, thread)
    finally:
        with suppress(RayActorError):
            ray.get(board.close.remote(), timeout=_CLOSE_S)
        thread.join(timeout=_CLOSE_S)
        # A thread that waits for Ray, or collects handles left in circles, while Ray disconnects would end the process.
        if thread.is_alive():
            _kill(board)
            thread.join(timeout=_KILL_S)
        del trainer
        gc.collect()


def _kill(board: Any) -> None:
    with suppress(RayActorError):
        leader = ray.get(board.leader.remote())
        if leader is not None:
            ray.kill(leader)


def _fit(trainer: DataParallelTrainer, board: Any) -> None:
    try:
        trainer.fit()
    except Exception as error:  # noqa: BLE001 - the border of a thread: the cause is passed on and shown
        with suppress(Exception):  # nobody listens any more
            ray.get(board.give_up.remote(f"Ray Train has given up: {type(error).__name__}: {error}"))


def _check_room(needed: int, size: int) -> None:
    has = int(ray.cluster_resources().get("CPU", 0))
    if needed <= has:
        return
    if ip_address(ray.util.get_node_ip_address()).is_loopback:
        raise SpecError(
            f"train.workers: {size} workers with {needed // size} CPUs each asked, this machine has {has} CPUs; "
            "take fewer, or a cluster"
        )
    say(f"train: {size} workers need {needed} CPUs, the cluster has {has}; waiting until it has grown")


def _serve(config: dict[str, Any]) -> None:
    """Be one of the workers, until the board is closed."""
    work: _Work = config["work"]
    rank, size = get_context().get_world_rank(), get_context().get_world_size()
    with suppress(FileNotFoundError):  # on another node Ray has set the folder
        os.chdir(work.place)
    os.environ |= work.variables
    import_xgboost()
    try:
        setting = work.spread.of(rank, work.setting)
    except Exception as error:
        ray.get(work.board.give_up.remote(f"worker {rank} of {size} cannot read its rows: {error}"))
        raise
    while True:
        more, host, port = broadcast_from_rank_zero(_next(work.board) if rank == 0 else None)
        if not more:
            return
        _make(work.board, setting, Group(rank=rank, size=size, host=host, port=port))


def _next(board: Any) -> tuple[bool, str, int]:
    """Wait for a trial; return whether there is one, and where rank 0 may listen for the others."""
    trial = ray.get(board.take.remote(_ALL))
    host = ray.util.get_node_ip_address()
    with socket.socket() as free:
        free.bind((host, 0))
        return trial is not None, host, free.getsockname()[1]


def _make(board: Any, setting: Setting, group: Group) -> None:
    trial = ray.get(board.running.remote(_ALL))
    begun = time.perf_counter()
    try:
        fitted = fit_in_group(trial, setting, group)
        if group.rank == 0:
            result = keep_model(trial, fitted, setting, seconds=time.perf_counter() - begun)
            ray.get(board.end.remote(_ALL, result))
    except Exception as error:  # noqa: BLE001 - the border of a trial: the cause is passed on as a value and shown
        ray.get(board.end.remote(_ALL, failed(trial, error)))
        os._exit(1)
