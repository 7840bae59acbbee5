"""The one way to MLflow: SQL store, one process at a time while its tables are made. Knows nothing of models."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from raymlops.spec import home

__all__ = ["alone", "client", "tracking_uri"]


def tracking_uri() -> str:
    """Return `$MLFLOW_TRACKING_URI` of a team's server, else the SQLite file of this home."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home() / 'mlflow' / 'mlflow.db'}"


def client() -> Any:
    """Return an MlflowClient of `tracking_uri`, connected once a process."""
    return _client(tracking_uri(), str(home()))


@contextmanager
def alone(lock: str) -> Iterator[None]:
    """Wait until nobody else in this home holds the lock of this name, and hold it."""
    folder = home() / "mlflow"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{lock}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@lru_cache(maxsize=4)
def _client(uri: str, root: str) -> Any:
    import logging

    from mlflow import MlflowClient

    # Whoever asks knows when to try again; by default MLflow alone would for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    for name in ("mlflow", "mlflow.store.db.utils", "alembic", "alembic.runtime.migration"):
        logging.getLogger(name).setLevel(logging.ERROR)

    # Two processes that make MLflow's tables at once corrupt them: one makes, the other waits.
    with alone("tables"):
        made = MlflowClient(tracking_uri=uri, registry_uri=uri)
        made.search_registered_models(max_results=1)
    return made
