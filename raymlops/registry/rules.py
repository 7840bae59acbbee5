"""Whether a move of an alias is backed: by who may, agreed to by as many as must. Pure; knows nothing of MLflow."""

from collections.abc import Sequence

from raymlops.registry.access import Access
from raymlops.registry.journal import Entry

__all__ = ["agreed", "needed", "unbacked"]


def needed(known: Access, entries: Sequence[Entry], alias: str, version: int, *, asked: int) -> int:
    """Return how many people must agree before an alias moves to a version: what the access file says for the alias,
    or, for the champion, what the version's spec ``asked`` if that is more. One may take it back to where it stood.
    """
    stood = any(_moves(one, alias) and one.version == version for one in entries)
    return 1 if stood else max(known.approvals(alias), asked if alias == "champion" else 1)


def agreed(known: Access, entries: Sequence[Entry], name: str, alias: str, version: int) -> set[str]:
    """Return who has approved that an alias moves to a version since it last moved, by name."""
    since = max((at for at, one in enumerate(entries) if _moves(one, alias)), default=-1)
    role = known.role(alias)
    found = [
        known.who(one.key)
        for one in entries[since + 1 :]
        if (one.what, one.alias, one.version) == ("approved", alias, version)
        and known.may(one.key, role, name, at=one.moment)
    ]
    return {person[0] for person in found if person}


def unbacked(known: Access, entries: Sequence[Entry], name: str, alias: str, version: int, *, asked: int) -> str:
    """Return why the journal does not back that an alias stands at a version, nothing where it does."""
    last = max((at for at, one in enumerate(entries) if _moves(one, alias)), default=None)
    if last is None or entries[last].version != version:
        return "the journal has no such move"
    move, earlier = entries[last], entries[:last]
    role = known.role(alias)
    if not known.may(move.key, role, name, at=move.moment):
        return f"it was moved there by {move.who}, who has not the role {role}" + ("" if move.key else " and no key")
    mover = known.who(move.key)
    assert mover is not None
    people = agreed(known, earlier, name, alias, version) | {mover[0]}
    must = needed(known, earlier, alias, version, asked=asked)
    return f"{len(people)} of {must} people agreed: {', '.join(sorted(people))}" if len(people) < must else ""


def _moves(entry: Entry, alias: str) -> bool:
    return entry.what == "alias" and entry.alias == alias
