"""The journal of a model, and how far it goes as MLflow knows it. Knows nothing of who may write."""

from collections.abc import Mapping
from datetime import datetime

from raymlops.errors import Conflict
from raymlops.registry import journal
from raymlops.registry.access import Role, allow
from raymlops.registry.journal import Entry
from raymlops.registry.mlflow_client import client
from raymlops.registry.origin import Origin, read_origin
from raymlops.registry.versions import aliases_of, listed
from raymlops.values import JsonValue, Version

__all__ = ["history", "note", "origin_of", "written"]

_TIP = "raymlops.journal"  # the tag that holds how far the journal goes


def history(name: str, *, until: datetime | None = None) -> list[Entry]:
    """Return the journal of a model, of the time before a moment if one is given.

    Raise Conflict when a line was changed, or lines were cut out, also at the end: how far it went MLflow knows too.
    """
    there = listed(name)
    entries = journal.read(name)
    kept = client().get_registered_model(name).tags.get(_TIP, "") if there else ""
    number, _, last = kept.partition(":")
    if kept and (len(entries) < int(number) or entries[int(number) - 1].hash != last):
        said = f"its journal had {number} lines and has {len(entries)}"
        raise Conflict(f"{name}: {said}; lines at its end were cut off or replaced, restore the file")
    return [entry for entry in entries if until is None or entry.moment < until]


def note(
    name: str,
    what: str,
    *,
    role: Role,
    version: int | None,
    alias: str = "",
    before: int | None = None,
    why: str = "",
    evidence: Mapping[str, JsonValue] | None = None,
) -> Entry:
    """Write a line into the journal of a model: what happened to a version, that it was served for one.

    Raise Forbidden for whoever has not the role that this needs.
    """
    who = allow(role, name)
    if not journal.exists(name):  # of a model that is older than its journal: it begins with where its aliases stand
        for there, number in aliases_of(name).items():
            journal.append(name, "alias", who=who, version=number, alias=there, why="stood there before the journal")
    return journal.append(name, what, who=who, version=version, alias=alias, before=before, why=why, evidence=evidence)


def origin_of(version: Version) -> Origin | None:
    """Return where a version was made, as its registration in the journal says; None where that says nothing.

    Raise Conflict when what was written down then, or the journal, was changed.
    """
    entries = history(version.name)
    made = next((one for one in entries if one.what == "registered" and one.version == version.number), None)
    kept = str(made.evidence.get("origin", "")) if made else ""
    return read_origin(kept) if kept else None


def written(name: str, entry: Entry) -> None:
    """Let MLflow know how far the journal goes."""
    client().set_registered_model_tag(name, _TIP, journal.tip(entry))
