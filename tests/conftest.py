"""A home of its own for a test, with MLflow's tables already in it (making them takes seconds), and an S3."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

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
