"""Where artefacts live, and how a path in a spec is read. Knows nothing of what is stored there."""

import os
from pathlib import Path

__all__ = ["expand", "home", "home_variables"]


def home() -> Path:
    """Return the absolute folder of all artefacts: `$RAYMLOPS_HOME`, else `.raymlops` in the current folder.

    A plain Ray job runs in a copy of the working folder that Ray throws away, so there it is `~/.raymlops`.
    """
    if given := os.environ.get("RAYMLOPS_HOME"):
        return Path(given).expanduser().resolve()
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        return Path.home() / ".raymlops"
    return Path.cwd() / ".raymlops"


def home_variables() -> dict[str, str]:
    """Return the environment in which another process finds the same home, and who may do what there."""
    found = {"RAYMLOPS_HOME": str(home())}
    if given := os.environ.get("RAYMLOPS_ACCESS"):
        found["RAYMLOPS_ACCESS"] = str(Path(given).expanduser().resolve())
    others = ("MLFLOW_TRACKING_URI", "RAYMLOPS_STORE")
    return found | {name: os.environ[name] for name in others if os.environ.get(name)}


def expand(path: str) -> str:
    """Return a path of a spec with `${home}`, `${VARIABLES}` and `~` filled in.

    >>> expand("s3://bucket/rows.parquet")
    's3://bucket/rows.parquet'
    """
    return os.path.expanduser(os.path.expandvars(path.replace("${home}", str(home()))))
