"""A home of its own for each test, a small table, and an S3."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import httpx
import numpy as np
import pyarrow as pa
import pytest


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYMLOPS_HOME", str(tmp_path / "home"))


@pytest.fixture
def rows() -> pa.Table:
    random = np.random.default_rng(0)
    x = random.normal(size=1000)
    return pa.table({
        "id": np.arange(1000), "x": x, "colour": random.choice(["red", "blue", "green"], 1000),
        "y": (x + random.normal(size=1000) > 0).astype(int),
    })  # fmt: skip


@pytest.fixture(scope="session")
def _s3_server() -> Iterator[str]:
    """An S3 in a process of its own: deltalake holds Python's lock while it waits for an answer."""
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
def s3(_s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty bucket, which the environment describes as it would in production."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", _s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-so-secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    httpx.post(f"{_s3_server}/moto-api/reset").raise_for_status()
    httpx.put(f"{_s3_server}/rows").raise_for_status()
    return "s3://rows"
