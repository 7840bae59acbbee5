"""Read versions from the SQLite file of this home as MLflow keeps them: importing MLflow takes longer than the rest.

Knows nothing of writing; what it cannot read it leaves to MLflow.
"""

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from raymlops.spec import home
from raymlops.values import Version

__all__ = ["stored_version", "stored_versions"]

_TAGS = """
SELECT version.version, tag.key, tag.value
FROM model_versions AS version
JOIN model_version_tags AS tag ON tag.name = version.name AND tag.version = version.version
WHERE version.name = ? AND tag.key IN ('digest', 'path') AND version.current_stage != 'Deleted_Internal'
"""
_ALIASES = "SELECT version, alias FROM registered_model_aliases WHERE name = ? ORDER BY alias"


def stored_versions(name: str) -> list[Version] | None:
    """Return every version of a model, oldest first; None where the registry is a server or has other tables."""
    read = _read((_TAGS, (name,)), (_ALIASES, (name,)))
    return None if read is None else _versions(name, *read)


def stored_version(name: str, which: str) -> Version | None:
    """Return the version of a number or an alias; None where there is none, and where `stored_versions` gives None.

    It reads no other version, so it takes as long for one of ten thousand as for one of two.
    """
    read = _read((_ALIASES, (name,)))
    if read is None:
        return None
    number = next((int(of) for of, alias in read[0] if alias == which), None)
    if number is None and which.isascii() and which.isdigit() and len(which) < 10:
        number = int(which)
    if number is None:
        return None
    tags = _read((f"{_TAGS} AND version.version = ?", (name, number)))
    found = _versions(name, tags[0], read[0]) if tags else []
    return found[0] if found else None


def _read(*queries: tuple[str, Sequence[Any]]) -> list[list[Any]] | None:
    stored = home() / "mlflow" / "mlflow.db"
    if os.environ.get("MLFLOW_TRACKING_URI") or not stored.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"file:{stored}?mode=ro", uri=True, timeout=5)) as database:
            return [database.execute(query, values).fetchall() for query, values in queries]
    except sqlite3.Error:
        return None


def _versions(name: str, tags: Sequence[Any], aliases: Sequence[Any]) -> list[Version]:
    found: dict[int, dict[str, str]] = {}
    for number, key, value in tags:
        found.setdefault(int(number), {})[key] = value
    held: dict[int, list[str]] = {}
    for of, alias in aliases:
        held.setdefault(int(of), []).append(alias)
    return [
        Version(
            name=name,
            number=number,
            digest=values["digest"],
            path=Path(values["path"]),
            aliases=tuple(held.get(number, ())),
        )
        for number, values in sorted(found.items())
    ]
