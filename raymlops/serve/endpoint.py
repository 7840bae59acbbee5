"""What an endpoint holds and does whichever way it is asked: its models, its keys, its threads. Knows no protocol."""

import asyncio
import hmac
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from raymlops.errors import Unavailable
from raymlops.serve.batch import Batching
from raymlops.serve.batcher import Batcher
from raymlops.serve.infer import Asked, predict
from raymlops.serve.metrics import Meter, Tally
from raymlops.serve.models import Model, Models
from raymlops.values import Float32

__all__ = ["Endpoint"]

_INLINE_BYTES = 64 * 2**10  # a request up to this is answered in the event loop: a thread's hop costs more
_INLINE_S = 2e-3  # a model that takes longer is asked in a thread, so that others do not wait for it
_MOST_THREADED = 256  # requests in threads or waiting for one; above, the caller is told to come again

T = TypeVar("T")


class Endpoint:
    """Holds models; `serve` puts others in their place between two requests.

    ``closing``: callers are to open another connection. ``busy_s``: seconds that requests have taken so far.
    """

    def __init__(self, meter: Meter) -> None:
        self.models, self.meter = Models(), meter
        self.closing, self.busy_s = False, 0.0
        self._keys: list[bytes] = []
        self._batchers: dict[str, tuple[Model, Batcher]] = {}
        self._threaded = 0

    def serve(self, models: Models, keys: frozenset[str]) -> None:
        """Answer for these models with these keys; a request that has begun ends with what it began with."""
        before, self.models, self._keys = self.models, models, [key.encode() for key in keys]
        for name, model in models.loaded.items():
            for engine, reason in model.passed if before.loaded.get(name) is not model else ():
                self.tally(model).fell_back(engine, type(reason))
        kept = {name: pair for name, pair in self._batchers.items() if models.loaded.get(name) is pair[0]}
        self._batchers = {
            name: kept.get(name) or (model, self._batcher(model, Batching(**model.wanted.batching)))
            for name, model in models.loaded.items()
            if model.wanted.batching
        }

    def allows(self, key: str) -> bool:
        """Return whether a key opens the endpoint, as any text does where it has none."""
        if not self._keys:
            return True
        # Every key is compared, each in constant time: how long it takes says nothing of which is near.
        given, same = key.encode("latin-1", "replace"), False
        for known in self._keys:
            same |= hmac.compare_digest(given, known)
        return same

    def tally(self, model: Model) -> Tally:
        """Return where the requests of a model are counted."""
        return self.meter.of(model.wanted.name, model.wanted.number)

    def at_once(self, model: Model, size: int) -> bool:
        """Return whether a request of `size` bytes is so quick that it is best answered here and now."""
        return size <= _INLINE_BYTES and not self._batchers and self.tally(model).busy_s < _INLINE_S

    def expecting(self, model: Model) -> AbstractContextManager[None]:
        """Say that a request to the model is being read: a batch may wait for it."""
        batcher = self._batcher_of(model)
        return batcher.expecting() if batcher else nullcontext()

    async def answer(
        self, model: Model, size: int, read: Callable[[], Asked], write: Callable[[Asked, Float32], T]
    ) -> T:
        """Read a request of `size` bytes, let the model answer, and return what is written of it.

        Small requests to a quick model are answered at once, others in a thread. Raise Unavailable when too many wait.
        """
        if batcher := self._batcher_of(model):
            return await self._in_a_batch(batcher, model, size, read, write)
        if self.at_once(model, size):
            return _all(read, write)
        return await self._in_a_thread(model, lambda: _all(read, write))

    async def _in_a_batch(
        self, batcher: Batcher, model: Model, size: int, read: Callable[[], Asked], write: Callable[[Asked, Float32], T]
    ) -> T:
        small = size <= _INLINE_BYTES
        with batcher.expecting():
            asked = read() if small else await self._in_a_thread(model, read)
        y = await batcher.predict(asked.x)
        return write(asked, y) if small else await self._in_a_thread(model, lambda: write(asked, y))

    def _batcher_of(self, model: Model) -> Batcher | None:
        found = self._batchers.get(model.wanted.name)
        return found[1] if found and found[0] is model else None

    def _batcher(self, model: Model, limits: Batching) -> Batcher:
        tally = self.tally(model)

        def counted(x: Float32) -> Float32:
            tally.batched(len(x))
            return predict(model, x)

        return Batcher(counted, name=model.wanted.name, limits=limits)

    async def _in_a_thread(self, model: Model, work: Callable[[], T]) -> T:
        if self._threaded >= _MOST_THREADED:
            raise Unavailable(f"model {model.wanted.name!r}: {_MOST_THREADED} requests wait already; come again")
        self._threaded += 1
        try:
            return await asyncio.to_thread(work)
        finally:
            self._threaded -= 1


def _all(read: Callable[[], Asked], write: Callable[[Asked, Float32], T]) -> T:
    asked = read()
    return write(asked, predict(asked.model, asked.x))
