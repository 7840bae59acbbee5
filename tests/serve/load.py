"""Callers that ask without a pause and note what came of it, from a thread of their own."""

import asyncio
import threading
import time
from dataclasses import dataclass, field
from itertools import pairwise
from types import TracebackType

import httpx

__all__ = ["Load"]

BODY = b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": [1, 0.5, 3, 1]}]}'


@dataclass(slots=True)
class Load:
    """Callers of one URL while the block runs, each with a connection; `fresh`: with a new one for each request."""

    url: str
    callers: int = 8
    fresh: bool = False
    body: bytes = BODY
    answered: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> "Load":
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))
        self._thread.start()
        self.wait(self.callers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Ask no more."""
        self._ended.set()
        assert self._thread
        self._thread.join()

    def wait(self, more: int, *, within_s: float = 60) -> None:
        """Wait until so many more requests have been answered."""
        until, deadline = len(self.answered) + more, time.monotonic() + within_s
        while len(self.answered) < until:
            assert time.monotonic() < deadline, self.failed[:3]
            time.sleep(0.01)

    def longest_gap_s(self) -> float:
        """Return the longest time in which nobody was answered."""
        return max(after - before for before, after in pairwise(sorted(self.answered)))

    async def _all(self) -> None:
        await asyncio.gather(*(self._ask() for _ in range(self.callers)))

    async def _ask(self) -> None:
        headers = {"content-type": "application/json"} | ({"connection": "close"} if self.fresh else {})
        async with httpx.AsyncClient(timeout=30, trust_env=False, headers=headers) as client:
            while not self._ended.is_set():
                try:
                    response = await client.post(self.url, content=self.body)
                except httpx.TransportError as error:
                    self.failed.append(f"{type(error).__name__}: {error}")
                    continue
                if response.status_code == 200:
                    self.answered.append(time.monotonic())
                else:
                    self.failed.append(response.text)
