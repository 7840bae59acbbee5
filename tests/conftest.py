"""What tests of several rooms need: a home with MLflow's tables already in it, and a PostgreSQL server."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
