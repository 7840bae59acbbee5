"""A home of its own for a test, with MLflow's tables already in it: making them takes seconds, copying does not."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

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
