"""Whether a move of an alias is backed: by who may, agreed to by as many as must. Pure; knows nothing of MLflow."""

from collections.abc import Sequence
from dataclasses import dataclass

from raymlops.registry.access import Access
from raymlops.registry.journal import Entry, is_genuine

__all__ = ["Standing", "standing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How an alias and one version stand to each other after the lines of a journal.

    ``people`` have approved, since the alias last moved, that it moves to the version, of whom ``needed`` must.
    ``unbacked`` says why the journal does not back that the alias stands at the version; nothing where it does.
    """

    people: frozenset[str]
    needed: int
    unbacked: str


def standing(
    known: Access, entries: Sequence[Entry], name: str, alias: str, version: int, *, digest: str, asked: int
) -> Standing:
    """Return how they stand: as many must agree as the access file says for the alias, or, for the champion, as the
    version's spec ``asked`` if that is more. One may take an alias back to where it has rightly stood before.
    """
    people: set[str] = set()
    least = known.approvals(alias)
    most = max(least, asked) if alias == "champion" else least
    stood, unbacked = False, "the journal has no such move"
    for entry in entries:
        if (entry.what, entry.version) == ("registered", version) and entry.evidence.get("digest") != digest:
            return Standing(people=frozenset(), needed=most, unbacked="it was registered with other bytes")
        if entry.alias != alias:
            continue
        if entry.what == "approved" and (entry.version, entry.evidence.get("digest")) == (version, digest):
            people |= _allowed(known, entry, name)
        if entry.what == "alias":
            unbacked = "the journal has no such move"
            if entry.version == version:
                unbacked = _unbacked(known, entry, name, people, needed=1 if stood else most)
                stood = stood or not unbacked
            people = set()
    return Standing(people=frozenset(people), needed=1 if stood else most, unbacked=unbacked)


def _unbacked(known: Access, move: Entry, name: str, people: set[str], *, needed: int) -> str:
    if not is_genuine(move):
        return f"the line that moved it there is not signed by {move.who}"
    mover = _allowed(known, move, name)
    if not mover:
        role = known.role(move.alias)
        return f"it was moved there by {move.who}, who has not the role {role}" + ("" if move.key else " and no key")
    agreed = sorted(people | mover)
    return f"{len(agreed)} of {needed} people agreed: {', '.join(agreed)}" if len(agreed) < needed else ""


def _allowed(known: Access, entry: Entry, name: str) -> set[str]:
    """Return the name of who wrote a line, nothing where they might not move its alias then, or it is not by them."""
    person = known.who(entry.key)
    may = known.may(entry.key, known.role(entry.alias), name, at=entry.moment)
    return {person[0]} if person and may and is_genuine(entry) else set()
