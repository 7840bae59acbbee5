"""Keeps one server process alive on a socket of this node. Knows nothing of Ray, of models or of HTTP.

The socket is opened here and inherited, so that it outlives a server that dies: callers who connect meanwhile wait in
its queue for the next one instead of being refused. What fails is what that process had begun.
"""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from raymlops.errors import StageFailed, Unavailable
from raymlops.telemetry import say

__all__ = ["Supervisor", "bound_socket"]

_QUIET_S = 30.0  # without a word from a server process after which it is taken for stuck
_LOAD_S = 600.0
_CLOSE_S = 15.0
_AGAIN_S = 0.5  # before a process that ended at once is started again, doubled each time it ends without a word
_LONGEST_S = 30.0
_TRIES = 3  # of a process that ends without a word, after which whoever waits for it hears of it


def bound_socket(host: str, port: int) -> socket.socket:
    """Return a socket for an address that other replicas on this node may share; Unavailable if it cannot be bound.

    It listens once a server process has models to answer with, and from then on until all have closed it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((host, port))
    except OSError as error:
        made.close()
        raise Unavailable(f"serve.port: {host}:{port} cannot be bound: {error.strerror}") from error
    made.setblocking(False)
    return made


class Supervisor:
    """Runs a server process at one address, starts another when it dies, and tells it what to serve."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        metrics: Path,
        variables: Mapping[str, str] | None = None,
        quiet_s: float = _QUIET_S,
    ) -> None:
        """Bind the address; `variables` are added to the environment of server processes. Unavailable: it is taken."""
        self.address = (host, port)
        self._variables = variables or {}
        self.load = 0.0
        self._metrics, self._quiet_s = metrics, quiet_s
        self._socket = bound_socket(host, port)
        self._config: dict[str, Any] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._served: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._heard = time.monotonic()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    async def serve(self, config: dict[str, Any]) -> list[str]:
        """Serve what the configuration says from now on; return what of it could not be loaded.

        Raise StageFailed when nothing could be, or the server process does not come up.
        """
        self._config = {**config, "turn": self._config.get("turn", 0) + 1}
        if self._task is None:
            self._task = asyncio.create_task(self._keep())
        elif self._writer is not None:
            await self._tell({"serve": self._config})
        try:
            served = await asyncio.wait_for(self._answer(self._config["turn"]), _LOAD_S)
        except TimeoutError:
            raise StageFailed(f"serve: models were not loaded within {_LOAD_S:.0f} s") from None
        if not served["loaded"]:
            raise StageFailed(*served["failed"])
        return [*served["failed"]]

    async def _answer(self, turn: int) -> dict[str, Any]:
        while (served := await self._served.get())["turn"] < turn:
            pass  # of a process that died meanwhile
        return served

    @property
    def pid(self) -> int | None:
        """The process that answers now, None while there is none."""
        return self._process.pid if self._process else None

    def check(self) -> None:
        """Raise Unavailable, and let another one be started, if the server process has said nothing for `quiet_s`."""
        silent = time.monotonic() - self._heard
        if silent > self._quiet_s:
            if self._process:
                self._process.kill()
            raise Unavailable(f"serve: the server process has said nothing for {silent:.0f} s and was killed")

    async def close(self) -> None:
        """Let the server process end what it has begun, and end it."""
        self._closing = True
        self._socket.close()
        process, task = self._process, self._task
        if process and task:
            await self._tell({"close": True})
            await asyncio.wait([task], timeout=_CLOSE_S)
            if process.poll() is None:
                process.kill()
            task.cancel()

    async def _keep(self) -> None:
        silent = 0
        while not self._closing:
            began, turn = time.monotonic(), self._config["turn"]
            try:
                spoke = await self._run_once()
            except OSError as error:
                spoke = False
                say(f"serve: the server process could not be started: {error}")
            if self._closing:
                return
            silent = 0 if spoke else silent + 1
            code = self._process.returncode if self._process else None
            say(f"serve: the server process ended with {code}; another one is started")
            if silent == _TRIES:
                said = (
                    f"serve: the server process ended with {code}, {_TRIES} times in a row; the replica's log says why"
                )
                self._served.put_nowait({"loaded": [], "failed": [said], "turn": turn})
            pause = min(_LONGEST_S, _AGAIN_S * 2**silent)
            await asyncio.sleep(max(0.0, pause - (time.monotonic() - began)))

    async def _run_once(self) -> bool:
        """Start a server process, and listen to it until it ends; return whether it ever said what it serves."""
        spoke = False
        ours, theirs = socket.socketpair()
        self._metrics.mkdir(parents=True, exist_ok=True)
        handed = (self._socket.fileno(), theirs.fileno())
        with theirs:
            self._process = process = subprocess.Popen(
                [sys.executable, "-m", "raymlops.serve.server", *map(str, handed), str(self._metrics)],
                stdin=subprocess.DEVNULL,
                pass_fds=handed,
                env={**os.environ, **self._variables},
                # Ray ends the process group of a worker that dies, and this one is to answer until there is another.
                start_new_session=True,
            )
        reader, self._writer = await asyncio.open_connection(sock=ours)
        self._heard = time.monotonic()
        try:
            await self._tell({"serve": self._config})
            while line := await reader.readline():
                word = orjson.loads(line)
                spoke |= "served" in word
                self._hear(word)
        except ConnectionError:
            pass
        finally:
            self._writer.close()
            self._writer, self.load = None, 0.0
            await asyncio.to_thread(process.wait)
        return spoke

    def _hear(self, word: dict[str, Any]) -> None:
        self._heard = time.monotonic()
        self.load = word.get("load", self.load)
        if "served" in word:
            self._served.put_nowait(word["served"])

    async def _tell(self, word: dict[str, Any]) -> None:
        if self._writer:
            with suppress(ConnectionError):
                self._writer.write(orjson.dumps(word) + b"\n")
                await self._writer.drain()
