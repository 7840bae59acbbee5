"""Spread the trials of a sweep with Ray Tune. Knows nothing of models, of metrics or of what is tried next.

What Tune runs are workers: it places them, as many as there are CPUs, and starts them again when they die. A step of a
worker is one of our trials, which it gets from a board. So a trial costs no start of a process, and what is tried next
can be decided between any two of them.
"""

import asyncio
import gc
import logging
import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

import ray
from ray import tune
from ray.exceptions import RayActorError
from ray.tune import Callback, CheckpointConfig, FailureConfig, RunConfig, TuneConfig

from raymlops.engine.formats.xgboost import import_xgboost
from raymlops.errors import StageFailed
from raymlops.train.fit import Setting
from raymlops.train.sweep import Result, Trial
from raymlops.train.trial import try_trial

__all__ = ["THREAD", "Board", "Pool", "pool"]

THREAD = "the sweep's workers"

_MOST_DEATHS = 4  # of workers by one trial: then it is the trial
_CLOSE_S = 30.0  # for Tune to end its workers
_KILL_S = 2  # after which it ends one that runs a trial
_ENDED: set[str] = set()  # names of pools
_LOST = "its worker died {} times; the log of the Ray worker may say why, the memory that is left is the usual cause"


class Board:
    """Which trials wait, which worker has which, and how they ended."""

    def __init__(self) -> None:
        self._waiting: deque[Trial] = deque()
        self._running: dict[int, Trial] = {}
        self._deaths: dict[tuple[int, int], int] = {}
        self._ended: deque[tuple[Trial | None, Result | None, str]] = deque()
        self._closed = False
        self._leader: Any = None
        self._news = asyncio.Condition()

    async def put(self, trials: Sequence[Trial]) -> None:
        async with self._news:
            self._waiting.extend(trials)
            self._news.notify_all()

    async def close(self) -> None:
        async with self._news:
            self._closed = True
            self._news.notify_all()

    async def led(self, leader: Any) -> None:
        """Note the actor with which all workers end."""
        self._leader = leader

    async def leader(self) -> Any:
        return self._leader

    async def take(self, worker: int) -> Trial | None:
        """Wait for a trial, None at the end. A worker that has one is a new process: the one before died of it."""
        await self.lost(worker)
        async with self._news:
            await self._news.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return None
            self._running[worker] = self._waiting.popleft()
            return self._running[worker]

    async def running(self, worker: int) -> Trial:
        return self._running[worker]

    async def end(self, worker: int, result: Result) -> None:
        """Take how a trial ended; of several that make it together, the first to say so counts."""
        async with self._news:
            trial = self._running.get(worker)
            if trial is not None and (trial.index, trial.rung) == (result.index, result.rung):
                self._ended.append((self._running.pop(worker), result, ""))
                self._news.notify_all()

    async def give_up(self, cause: str) -> None:
        async with self._news:
            self._ended.append((None, None, cause))
            self._news.notify_all()

    async def lost(self, worker: int) -> None:
        async with self._news:
            trial = self._running.pop(worker, None)
            if trial is None:
                return
            key = trial.index, trial.rung
            self._deaths[key] = self._deaths.get(key, 0) + 1
            if self._deaths[key] < _MOST_DEATHS:
                self._waiting.appendleft(trial)
            else:
                self._ended.append((trial, None, _LOST.format(_MOST_DEATHS)))
            self._news.notify_all()

    async def ended(self) -> tuple[Trial | None, Result | None, str]:
        async with self._news:
            await self._news.wait_for(lambda: self._ended)
            return self._ended.popleft()


class _Worker(tune.Trainable):  # type: ignore[misc]
    def setup(self, config: dict[str, Any], board: Any, setting: Setting) -> None:
        self.number, self.board, self.setting = config["worker"], board, setting
        import_xgboost()

    def step(self) -> dict[str, Any]:
        trial = ray.get(self.board.take.remote(self.number))
        if trial is None:
            return {"done": True}
        result = try_trial(trial, self.setting)
        ray.get(self.board.end.remote(self.number, result))
        return {"trial": trial.index, "rung": trial.rung, "failed": bool(result.cause), **result.metrics}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing to save: a finished trial lies in its own folder."""


class _Lost(Callback):  # type: ignore[misc]
    """Tells the board of workers that died, as they may not come back: their node may be gone."""

    def __init__(self, board: Any) -> None:
        self._board = board

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._board.lost.remote(trial.config["worker"])

    on_trial_error = on_trial_recover


class _Stopped(tune.Stopper):  # type: ignore[misc]
    """Ends the workers, also those that wait for room; Tune copies it, so it asks a set of this process by name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._name in _ENDED


class Pool:
    """Workers that run the trials that are put in, in any order."""

    def __init__(self, board: Any, tuner: threading.Thread) -> None:
        self._board, self._tuner = board, tuner

    def put(self, trials: Sequence[Trial]) -> None:
        """Let these trials be run."""
        ray.get(self._board.put.remote(list(trials)))

    def ended(self) -> tuple[Trial, Result | None, str]:
        """Wait for a trial to end; return it with its result, or with None and why its worker died of it each time.

        Raise StageFailed when the workers are gone for good, or one of them can run no trial at all.
        """
        waited = self._board.ended.remote()
        try:
            while not ray.wait([waited], timeout=1.0)[0]:
                if not self._tuner.is_alive():
                    raise StageFailed("train: the workers ended while trials were waiting; the same command goes on")
            trial, result, cause = ray.get(waited)
        except RayActorError as error:
            raise StageFailed(f"train: the sweep's board died ({error}); the same command goes on") from error
        if trial is None:
            raise StageFailed(f"train: {cause}")
        return trial, result, cause


@contextmanager
def pool(setting: Setting, *, trials: int) -> Iterator[Pool]:
    """Hold workers for at most ``trials`` trials at a time, each with `setting.threads` CPUs and
    `setting.gpus` GPUs.

    Twice as many are asked for as there is room for, so that a cluster that can grow sees a need.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # of workers that die it prints traces; the board knows
    # Tune's new console prints a header on standard output, which is kept for results; the old one honours verbose=0.
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    # A worker's series of trials says nothing as a curve, and TensorBoard's writer takes two seconds to import.
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["TUNE_FORCE_TRIAL_CLEANUP_S"] = str(_KILL_S)
    has = ray.cluster_resources()
    room = max(1, int(has.get("CPU", 1)) // setting.threads)
    if setting.gpus:
        room = max(1, min(room, int(has.get("GPU", 0) / setting.gpus)))
    board, name = ray.remote(num_cpus=0)(Board).remote(), uuid4().hex
    worker = tune.with_parameters(_Worker, board=board, setting=setting)
    tuner = tune.Tuner(
        tune.with_resources(worker, {"cpu": setting.threads, "gpu": setting.gpus}),
        param_space={"worker": tune.grid_search(list(range(min(trials, 2 * room))))},
        tune_config=TuneConfig(),
        run_config=RunConfig(
            name="tune",
            storage_path=str(setting.sweep),
            verbose=0,
            callbacks=[_Lost(board)],
            stop=_Stopped(name),
            failure_config=FailureConfig(max_failures=-1),
            checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    thread = threading.Thread(target=tuner.fit, daemon=True, name=THREAD)
    thread.start()
    try:
        yield Pool(board, thread)
    finally:
        _ENDED.add(name)
        with suppress(RayActorError):
            ray.get(board.close.remote(), timeout=_CLOSE_S)
        thread.join(timeout=_CLOSE_S)
        # A thread that waits for Ray, or collects handles left in circles, while Ray disconnects would end the process.
        del worker, tuner
        gc.collect()
