"""Put requests of one model together, compute them in threads, and give each caller its own rows back.

It carries out what `batch.step` decides, in one event loop. Knows nothing of HTTP, contracts or Ray.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from math import inf

import numpy as np

from raymlops.errors import EngineError, Unavailable
from raymlops.serve.batch import (
    Action,
    Answer,
    Arrived,
    Batching,
    Blame,
    Compute,
    Event,
    Item,
    Left,
    Raised,
    Refuse,
    Returned,
    State,
    Tick,
    Why,
    due,
    step,
)
from raymlops.values import Float32

__all__ = ["Batcher", "Late"]


class Late(Unavailable):
    """No answer came in time."""

    http_status = 504


@dataclass(frozen=True, slots=True)
class _Caller:
    x: Float32
    answer: "asyncio.Future[Float32]"


class Batcher:
    """The requests of one model in one process. It belongs to the event loop that first asks it for an answer.

    Nothing needs to be closed: without callers it keeps no timer, and its threads end with it.
    """

    def __init__(self, model: Callable[[Float32], Float32], *, name: str, limits: Batching) -> None:
        """Keep the model: a function from rows to as many answers, safe in `limits.concurrency` threads at once.

        The array it returns must be its own: callers get views of it.
        """
        self._model, self._name, self._limits = model, name, limits
        self._threads = ThreadPoolExecutor(limits.concurrency, thread_name_prefix=f"batches of {name}")
        self._state = State()
        self._numbers = count()
        self._callers: dict[int, _Caller] = {}
        self._coming = 0
        self._ticking = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many requests wait to be computed."""
        return self._state.queued

    @contextmanager
    def expecting(self) -> Iterator[None]:
        """Say that a request is being read: others may be held back for it, `limits.wait_ms` at most.

        Leave before `predict` is awaited: a request that is there is not coming.
        """
        self._coming += 1
        try:
            yield
        finally:
            self._coming -= 1
            self._tick_soon()

    async def predict(self, x: Float32, *, within_s: float = inf) -> Float32:
        """Return the answers to rows x [n, features], computed together with other requests.

        Raise what the model raises for these rows; Late when there is no answer `within_s` seconds from now, or the
        batch took longer than it may; Unavailable when too many wait or the model does not come back; EngineError when
        it gives another number of answers than rows. A caller that is cancelled disturbs nobody else.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Float32] = loop.create_future()
        number, now = next(self._numbers), loop.time()
        self._callers[number] = _Caller(x, answer)
        self._tell(Arrived(Item(id=number, rows=len(x), since=now, deadline=now + within_s)))
        try:
            return await answer
        finally:
            if answer.cancelled():
                self._tell(Left(number))
            del self._callers[number]

    def _tell(self, event: Event, answers: Float32 | None = None) -> None:
        self._state, actions = step(self._state, event, limits=self._limits)
        for action in actions:
            self._do(action, answers)
        if not isinstance(event, Tick):
            self._tick_soon()

    def _do(self, action: Action, answers: Float32 | None) -> None:
        match action:
            case Compute():
                self._compute(action)
            case Answer():
                assert answers is not None
                self._settle(action.item, answers[action.rows])
            case Blame():
                self._settle(action.item, action.error)
            case Refuse():
                self._settle(action.item, _refusal(action.why, self._name, self._limits))

    def _compute(self, action: Compute) -> None:
        parts = [self._callers[item].x for item in action.items]
        loop = asyncio.get_running_loop()
        loop.run_in_executor(self._threads, _computed, self._model, parts, self._name).add_done_callback(
            partial(self._back, action.batch)
        )

    def _back(self, batch: int, done: "asyncio.Future[Float32 | Exception]") -> None:
        found = done.result()
        if isinstance(found, Exception):
            self._tell(Raised(batch, found))
        else:
            self._tell(Returned(now=done.get_loop().time(), batch=batch), found)

    def _settle(self, item: int, outcome: Float32 | Exception) -> None:
        answer = self._callers[item].answer
        if answer.done():  # its caller was cancelled in this very turn of the loop, and is about to leave
            return
        if isinstance(outcome, Exception):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)

    def _tick_soon(self) -> None:
        # Not at once: what else this turn of the loop has read is to be in the same batch.
        if not self._ticking:
            self._ticking = True
            asyncio.get_running_loop().call_soon(self._tick)

    def _tick(self) -> None:
        self._ticking = False
        loop = asyncio.get_running_loop()
        self._tell(Tick(now=loop.time(), coming=self._coming))
        at = due(self._state, limits=self._limits)
        if self._timer is not None and self._timer.when() <= at < inf:
            return  # a tick too early is cheaper than a new timer for every batch
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(at, self._wake) if at < inf else None

    def _wake(self) -> None:
        self._timer = None
        self._tick()


def _computed(model: Callable[[Float32], Float32], parts: Sequence[Float32], name: str) -> Float32 | Exception:
    """Return the answers, or what was raised."""
    try:
        x = parts[0] if len(parts) == 1 else np.concatenate(parts)
        answers = model(x)
        if len(answers) != len(x):
            raise EngineError(f"model {name!r}: {len(answers)} answers to {len(x)} rows; an engine answers every row")
    except BaseException as error:  # noqa: BLE001 - the border to engines: raised again where its caller waits
        if isinstance(error, Exception) and not isinstance(error, StopIteration):
            return error
        # An awaiting caller cannot be handed these: they would end the loop, or be lost.
        return EngineError(f"model {name!r}: ended with {error!r}")
    return answers


def _refusal(why: Why, name: str, limits: Batching) -> Unavailable:
    where, bound = f"model {name!r}", f"batching.timeout_s={limits.timeout_s:g}"
    match why:
        case "full":
            return Unavailable(f"{where}: batching.most_waiting={limits.most_waiting} requests wait; send again later")
        case "late":
            return Late(f"{where}: no answer by the deadline of the request; allow more time, or send again later")
        case "slow":
            return Late(f"{where}: its computation did not end in time, {bound}; send fewer rows, or again later")
        case "stuck":
            return Unavailable(f"{where}: has not come back from a computation in {bound}; send again later")
