"""One server process: uvicorn on a socket that it inherits, for models that it is told. Knows nothing of Ray.

`python -m raymlops.serve.server LISTENING CONTROL METRICS` takes two file descriptors and a folder. On CONTROL lines
of JSON come in, `{"serve": CONFIG}` and `{"close": true}`; lines go out, `{"served": …}` for each CONFIG and, each
second, `{"load": N}`: N CPUs were busy, or N requests being answered, whichever is more. It has an interpreter of its
own, which in a process of Ray's it would share with Ray's threads.

When CONTROL ends without a word, whoever started this process was killed. It goes on answering until another one
listens at its address, then it closes.
"""

import asyncio
import gc
import logging
import socket
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import uvicorn

from raymlops.serve.app import MOST_BYTES, App
from raymlops.serve.endpoint import Endpoint
from raymlops.serve.keys import read_keys
from raymlops.serve.listener import has_company, last_callers
from raymlops.serve.metrics import Meter
from raymlops.serve.models import Wanted, next_models
from raymlops.serve.patient import Patient, look_after

__all__ = ["main"]

_ALONE_S = 60.0  # for the one that takes over to be up: a process of Ray's and a model's loading
_TO_LEAVE_S = 5.0  # for callers to see that they should open another connection
_KEEP_ALIVE_S = 75
_BACKLOG = 4096


log = logging.getLogger(__name__)


def main() -> None:
    """Serve until told to close."""
    listening, control = (socket.socket(fileno=int(word)) for word in sys.argv[1:3])
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    with asyncio.Runner(loop_factory=_loop) as runner:
        runner.run(_Process(listening, control, Meter(Path(sys.argv[3]))).run())


def _loop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


class _Process:
    def __init__(self, listening: socket.socket, control: socket.socket, meter: Meter) -> None:
        self._listening, self._control, self._meter = listening, control, meter
        self._endpoint = Endpoint(meter)
        self._grpc: Any = None
        self._server = uvicorn.Server(
            uvicorn.Config(
                App(self._endpoint),
                http=Patient,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_S,
                backlog=_BACKLOG,
            )
        )

    async def run(self) -> None:
        """Answer from the first configuration on of which something could be loaded, until the end."""
        reader, self._writer = await asyncio.open_connection(sock=self._control)
        tasks = [asyncio.create_task(self._tell())]
        try:
            answer = await self._first(reader)
            if answer is None:
                return
            listening = asyncio.create_task(self._server.serve(sockets=[self._listening]))
            while not self._server.started and not listening.done():
                await asyncio.sleep(0.01)
            await self._say(answer)
            connections = self._server.server_state.connections
            tasks += [asyncio.create_task(work) for work in (self._told(reader), look_after(connections))]
            await listening
            self._meter.save()
        finally:
            for task in tasks:
                task.cancel()

    async def _first(self, reader: asyncio.StreamReader) -> dict[str, Any] | None:
        """Return what became of the first configuration that can be served, None if the end comes before it."""
        while line := await _next_line(reader):
            word = orjson.loads(line)
            if "serve" not in word:
                return None
            answer = await self._load(word["serve"])
            if answer["served"]["loaded"]:
                return answer
            await self._say(answer)
        return None

    async def _told(self, reader: asyncio.StreamReader) -> None:
        while line := await _next_line(reader):
            word = orjson.loads(line)
            if "serve" in word:
                await self._say(await self._load(word["serve"]))
            else:
                await self._close()
                return
        log.warning("whoever started this process has gone; it closes when another one listens here")
        deadline = asyncio.get_running_loop().time() + _ALONE_S
        while asyncio.get_running_loop().time() < deadline and not has_company(self._listening):
            await asyncio.sleep(0.5)
        await self._close()

    async def _load(self, config: dict[str, Any]) -> dict[str, Any]:
        """Load what is new in a thread, while the old models answer, put the new in their place; return the outcome."""
        wanted = [Wanted.from_json(model) for model in config["models"]]
        answer: dict[str, Any]
        try:
            keys = await asyncio.to_thread(read_keys, [Path(path) for path in config["keys"]])
            models = await asyncio.to_thread(next_models, self._endpoint.models, wanted)
            self._endpoint.serve(models, keys)
            await self._speak_grpc(config.get("grpc_port"))
            failed = [f"{name}@{number}: {why}" for (name, number), why in models.failed.items()]
            answer = {"loaded": [*models.loaded], "failed": failed}
        except Exception as error:  # noqa: BLE001 - whoever configures hears of it, and the old models go on answering
            answer = {"loaded": [], "failed": [f"{type(error).__name__}: {error}"]}
        # What is loaded stays: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 50, 100)
        return {"served": {**answer, "turn": config["turn"]}}

    async def _speak_grpc(self, port: int | None) -> None:
        """Speak gRPC at a port, if one is given; it is taken once for the life of this process."""
        if port and self._grpc is None:
            from raymlops.serve.service import start

            host = self._listening.getsockname()[0]
            self._grpc = await start(self._endpoint, host=host, port=port, max_bytes=MOST_BYTES)

    async def _tell(self) -> None:
        at, busy, cpu = time.monotonic(), self._endpoint.busy_s, time.process_time()
        while True:
            await asyncio.sleep(1.0)
            then, busy_then, cpu_then = at, busy, cpu
            at, busy, cpu = time.monotonic(), self._endpoint.busy_s, time.process_time()
            await self._say({"load": max(busy - busy_then, cpu - cpu_then) / (at - then)})
            self._meter.save()

    async def _say(self, value: dict[str, Any]) -> None:
        with suppress(ConnectionError):
            self._writer.write(orjson.dumps(value) + b"\n")
            await self._writer.drain()

    async def _close(self) -> None:
        """Take no new connection, ask callers to leave the old ones, and end when they have, or after a while."""
        self._endpoint.closing = True
        await self._stop_listening()
        if self._grpc:
            await self._grpc.stop(_TO_LEAVE_S)
        deadline = asyncio.get_running_loop().time() + _TO_LEAVE_S
        while self._server.server_state.connections and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.05)
        self._server.should_exit = True

    async def _stop_listening(self) -> None:
        """Close the socket, and answer those who were waiting in its queue: the kernel would reset them."""
        held = self._listening.dup()
        for server in self._server.servers:
            server.close()
        for connection in last_callers(held):
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> Patient:
        server = self._server
        return Patient(config=server.config, server_state=server.server_state, app_state=server.lifespan.state)


async def _next_line(reader: asyncio.StreamReader) -> bytes:
    """Return the next line, nothing at the end; whoever was killed with words of ours unread resets the connection."""
    try:
        return await reader.readline()
    except ConnectionError:
        return b""


class _JsonLines(logging.Formatter):
    """A log record as one line of JSON, with the request's id and trace where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request": getattr(record, "request", None),
            "trace": getattr(record, "trace", None),
            "error": self.formatException(record.exc_info) if record.exc_info else None,
        }
        return orjson.dumps({name: value for name, value in line.items() if value}).decode()


if __name__ == "__main__":
    main()
