"""What tests of several rooms need: a home with MLflow's tables already in it, a PostgreSQL server, an S3."""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import httpx
import pytest

from raymlops.registry.mlflow_client import client


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
