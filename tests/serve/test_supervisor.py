"""A server process is kept alive on its socket: killed, stuck, told something wrong. Real processes, without Ray."""

import asyncio
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from raymlops.codec import dumps
from raymlops.errors import StageFailed, Unavailable
from raymlops.serve.listener import last_callers
from raymlops.serve.supervisor import Supervisor
from tests.serve.load import BODY, Load
from tests.serve.test_on_ray import free_port

CALLERS = 8


class Running:
    """A supervisor in an event loop of its own, as a replica has one."""

    def __init__(self, metrics: Path, port: int = 0) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.supervisor = self.do(self._made(metrics, port or free_port()))
        host, port = self.supervisor.address
        self.url = f"http://{host}:{port}"

    async def _made(self, metrics: Path, port: int) -> Supervisor:
        return Supervisor("127.0.0.1", port, metrics=metrics, quiet_s=3.0)

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        done: Future[Any] = asyncio.run_coroutine_threadsafe(work, self.loop)
        return done.result(timeout=60)

    def serve(self, *wanted: Any) -> list[str]:
        config = {"models": [asdict(one) for one in wanted], "keys": []}
        failed: list[str] = self.do(self.supervisor.serve(config))
        return failed

    def end(self) -> None:
        self.do(self.supervisor.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path / "metrics")
    yield made
    made.end()


@pytest.fixture
def infer(running: Running, make: Any) -> str:
    assert running.serve(make().wanted) == []
    return f"{running.url}/v2/models/small/infer"


def _wait(until: Callable[[], bool], within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("fresh", [False, True], ids=["kept connections", "new connections"])
def test_a_process_that_is_killed_loses_what_it_had_begun_and_no_more(
    running: Running, infer: str, fresh: bool
) -> None:
    before = running.supervisor.pid
    assert before
    with Load(infer, CALLERS, fresh=fresh) as load:
        psutil.Process(before).send_signal(signal.SIGKILL)
        load.wait(200)
    assert len(load.failed) <= CALLERS, load.failed
    assert running.supervisor.pid != before


def test_a_process_that_is_stuck_is_ended_and_replaced(running: Running, infer: str) -> None:
    before = running.supervisor.pid
    assert before
    psutil.Process(before).send_signal(signal.SIGSTOP)
    with pytest.raises(Unavailable, match="said nothing for"):  # noqa: PT012 - until it has been silent for long enough
        while True:
            running.supervisor.check()
            time.sleep(0.05)
    _wait(lambda: running.supervisor.pid != before)
    with Load(infer, 1) as load:
        load.wait(10)
    running.supervisor.check()


ALONE = """
import asyncio, json, sys
from pathlib import Path
from raymlops.serve.supervisor import Supervisor

async def main():
    supervisor = Supervisor("127.0.0.1", int(sys.argv[1]), metrics=Path(sys.argv[2]))
    await supervisor.serve({"models": [json.loads(sys.argv[3])], "keys": []})
    print(supervisor.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("stuck", [False, True], ids=["reading", "stuck"])
def test_a_process_whose_supervisor_is_killed_answers_until_another_one_does(
    tmp_path: Path, make: Any, stuck: bool
) -> None:
    wanted, port = make().wanted, free_port()
    words = [str(port), str(tmp_path / "metrics"), dumps(asdict(wanted)).decode()]
    first = subprocess.Popen([sys.executable, "-c", ALONE, *words], stdout=subprocess.PIPE)
    assert first.stdout
    orphan = psutil.Process(int(first.stdout.readline()))
    with Load(f"http://127.0.0.1:{port}/v2/models/small/infer", CALLERS) as load:
        if stuck:  # what it has not read when it is killed resets the connection
            first.send_signal(signal.SIGSTOP)
            time.sleep(2.5)
        first.kill()
        first.wait()
        load.wait(100)
        running = Running(tmp_path / "metrics", port)
        try:
            assert running.serve(wanted) == []
            _wait(lambda: not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE)
            load.wait(100)
        finally:
            load.end()
            running.end()
    assert load.failed == []


def test_another_configuration_is_served_by_the_same_process_and_drops_nothing(
    running: Running, infer: str, make: Any
) -> None:
    before = running.supervisor.pid
    with Load(infer, CALLERS) as load:
        assert running.serve(make(number=2, seed=5).wanted) == []
        load.wait(100)
    assert load.failed == []
    assert running.supervisor.pid == before
    assert httpx.get(f"{running.url}/v2/models/small", trust_env=False).json()["versions"] == ["2"]


def test_what_cannot_be_loaded_is_told_and_fails_only_where_nothing_else_answers(running: Running, make: Any) -> None:
    good, bad = make().wanted, make("bad", seed=9).wanted
    (Path(bad.path) / "model.ubj").write_bytes(b"{")
    with pytest.raises(StageFailed, match="bad@1"):
        running.serve(bad)
    (said,) = running.serve(good, bad)
    assert said.startswith("bad@1: ")
    assert httpx.get(f"{running.url}/v2/models/small/ready", trust_env=False).status_code == 200
    assert httpx.get(f"{running.url}/v2/models/bad/ready", trust_env=False).status_code == 503


def test_a_process_that_ends_without_a_word_is_tried_thrice_and_then_told_of(make: Any, tmp_path: Path) -> None:
    async def served() -> None:
        nowhere = {"PYTHONHOME": str(tmp_path / "nowhere")}
        supervisor = Supervisor("127.0.0.1", free_port(), metrics=tmp_path, variables=nowhere)
        try:
            await asyncio.wait_for(supervisor.serve({"models": [asdict(make().wanted)], "keys": []}), 30)
        finally:
            await supervisor.close()

    with pytest.raises(StageFailed, match="ended with 1, 3 times in a row"):
        asyncio.run(served())


def test_an_end_answers_what_was_begun_and_asks_callers_to_leave(running: Running, infer: str) -> None:
    pid = running.supervisor.pid
    assert pid
    failed: list[str] = []
    with Load(infer, CALLERS) as load:
        running.do(running.supervisor.close())
        failed = [*load.failed]
    assert all("ConnectError" in text for text in failed), failed
    assert not psutil.pid_exists(pid)


def test_numbers_are_added_up_over_processes_and_outlive_them(running: Running, infer: str) -> None:
    with Load(infer, 4) as load:
        load.wait(100)
        time.sleep(1.2)  # a process writes its numbers once a second
        counted = _requests(running.url)
        psutil.Process(running.supervisor.pid).send_signal(signal.SIGKILL)
        load.wait(50)
    assert _requests(running.url) >= counted >= 50


def _requests(url: str) -> float:
    page = httpx.get(f"{url}/metrics", trust_env=False).text
    (line,) = [line for line in page.splitlines() if "requests_total{" in line and 'status="200"' in line]
    return float(line.rpartition(" ")[2])


def test_who_waits_in_the_queue_of_a_socket_that_closes_is_kept() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(16)
        listening.setblocking(False)
        callers = [socket.create_connection(listening.getsockname(), timeout=5) for _ in range(3)]
        kept = last_callers(listening)
        assert len(kept) == 3
        assert listening.fileno() == -1
    for caller, connection in zip(callers, kept, strict=True):
        connection.send(b"here")
        assert caller.recv(4) == b"here"
        caller.close()
        connection.close()


def test_requests_that_wait_while_the_end_is_asked_for_are_answered(running: Running, infer: str) -> None:
    pid, url = running.supervisor.pid, httpx.URL(infer)
    assert pid
    psutil.Process(pid).send_signal(signal.SIGSTOP)
    callers = [socket.create_connection((url.host, url.port), timeout=20) for _ in range(5)]
    head = f"POST {url.path} HTTP/1.1\r\nHost: here\r\nContent-Length: {len(BODY)}\r\n\r\n"
    for caller in callers:
        caller.sendall(head.encode() + BODY)
    closing = threading.Thread(target=lambda: running.do(running.supervisor.close()))
    closing.start()
    time.sleep(0.2)
    psutil.Process(pid).send_signal(signal.SIGCONT)
    for caller in callers:
        assert caller.recv(15) == b"HTTP/1.1 200 OK"
        caller.close()
    closing.join()
