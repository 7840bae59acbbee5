"""The one way to MLflow: SQL store, one process at a time while its tables are made. Knows nothing of models."""

import fcntl
import os
from functools import lru_cache
from typing import Any

from raymlops.spec import home

__all__ = ["client", "tracking_uri"]


def tracking_uri() -> str:
    """Return `$MLFLOW_TRACKING_URI` of a team's server, else the SQLite file of this home."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home() / 'mlflow' / 'mlflow.db'}"


def client() -> Any:
    """Return an MlflowClient of `tracking_uri`, connected once a process."""
    return _client(tracking_uri(), str(home()))


@lru_cache(maxsize=4)
def _client(uri: str, root: str) -> Any:
    import logging

    from mlflow import MlflowClient

    for name in ("mlflow", "mlflow.store.db.utils", "alembic", "alembic.runtime.migration"):
        logging.getLogger(name).setLevel(logging.ERROR)

    folder = home() / "mlflow"
    folder.mkdir(parents=True, exist_ok=True)
    # Two processes that make MLflow's tables at once corrupt them: one makes, the other waits.
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = MlflowClient(tracking_uri=uri, registry_uri=uri)
        made.search_registered_models(max_results=1)
    return made
