"""Read versions from the SQLite file of this home as MLflow keeps them: importing MLflow takes longer than the rest.

Knows nothing of writing; what it cannot read it leaves to MLflow.
"""

import os
import sqlite3
from pathlib import Path

from raymlops.spec import home
from raymlops.values import Version

__all__ = ["stored_versions"]

_TAGS = """
SELECT version.version, tag.key, tag.value
FROM model_versions AS version
JOIN model_version_tags AS tag ON tag.name = version.name AND tag.version = version.version
WHERE version.name = ? AND tag.key IN ('digest', 'path') AND version.current_stage != 'Deleted_Internal'
"""
_ALIASES = "SELECT version, alias FROM registered_model_aliases WHERE name = ? ORDER BY alias"


def stored_versions(name: str) -> list[Version] | None:
    """Return every version of a model, oldest first; None where the registry is a server or has other tables."""
    stored = home() / "mlflow" / "mlflow.db"
    if os.environ.get("MLFLOW_TRACKING_URI") or not stored.is_file():
        return None
    try:
        database = sqlite3.connect(f"file:{stored}?mode=ro", uri=True, timeout=5)
        try:
            tags = database.execute(_TAGS, (name,)).fetchall()
            aliases = database.execute(_ALIASES, (name,)).fetchall()
        finally:
            database.close()
    except sqlite3.Error:
        return None
    found: dict[int, dict[str, str]] = {}
    for number, key, value in tags:
        found.setdefault(int(number), {})[key] = value
    return [
        Version(
            name=name,
            number=number,
            digest=values["digest"],
            path=Path(values["path"]),
            aliases=tuple(alias for of, alias in aliases if int(of) == number),
        )
        for number, values in sorted(found.items())
    ]
