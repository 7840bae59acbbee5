"""How aliases move, and who agrees to it. `champion` answers, `previous` is what it replaced."""

from collections.abc import Mapping

from raymlops.errors import Conflict, Forbidden, NotFound, SpecError
from raymlops.registry import journal
from raymlops.registry.access import access, allow
from raymlops.registry.chronicle import history, note, written
from raymlops.registry.mlflow_client import alone, client
from raymlops.registry.signature import check_signature
from raymlops.registry.versions import alias_of, aliases_of, asked_approvals, check_backed, listed, resolve, standing_of
from raymlops.values import JsonValue, Version

__all__ = ["approve", "check_aliases", "finalists", "promote", "rollback", "tag_finalists", "tag_student"]

_FINALIST = "finalist-"


def promote(
    ref: str, *, expected: str | None = None, why: str = "", evidence: Mapping[str, JsonValue] | None = None
) -> Version:
    """Make a version the champion and the present champion `previous`; doing it again changes nothing.

    ``why`` and ``evidence`` stand in the journal. With `expected`, the reference of the champion that the caller saw,
    raise Conflict if it is another by now: of those who saw the same one, one wins. Raise Forbidden for who may not
    move the champion, and while fewer agree than must.
    """
    version = resolve(ref)
    me = _mover(version.name, "champion")
    with alone(f"{version.name}.aliases"):
        champion = alias_of(version.name, "champion")
        if expected is not None and champion != resolve(expected).number:
            raise Conflict(f"{version.name}: the champion is version {champion}, not {expected}; look, then retry")
        if champion != version.number or not _is_backed(version, "champion"):
            _check_agreed(version, "champion", me)
            if champion not in (None, version.number):
                _move(version.name, "previous", champion, why=why)
            _move(version.name, "champion", version.number, why=why, evidence=evidence)
    return resolve(f"{version.name}@{version.number}")


def rollback(name: str, *, why: str = "") -> Version:
    """Make the previous version the champion again."""
    previous = alias_of(name, "previous")
    if previous is None:
        raise NotFound(f"{name}: has no previous version to go back to")
    return promote(f"{name}@{previous}", why=why or "rollback")


def approve(ref: str, *, alias: str = "champion", why: str = "") -> str:
    """Agree that an alias moves to a version; return, in words, who agrees by now and how many must.

    It counts until the alias moves. Raise Forbidden for who may not move it.
    """
    version, known = resolve(ref), access()
    if known is None:
        raise SpecError(f"{version}: to approve needs an access file, which says who people are; every one may promote")
    check_signature(version)
    with alone(f"{version.name}.aliases"):
        said: dict[str, JsonValue] = {"digest": version.digest}
        entry = note(
            version.name, "approved", role=known.role(alias), version=version.number, alias=alias,
            before=alias_of(version.name, alias), why=why, evidence=said,
        )  # fmt: skip
        written(version.name, entry)
    now = standing_of(known, version, alias)
    return f"that {alias} becomes {version} is agreed to by {', '.join(sorted(now.people))}; {now.needed} must agree"


def check_aliases(name: str) -> None:
    """Raise Conflict when an alias was moved by anybody but us, so that the journal does not say by whom and why.

    With an access file also when it came to where it is against the rules.
    """
    entries = history(name)
    said, held = journal.aliases_at(entries), aliases_of(name)
    for alias in sorted({*said, *held}) if entries else ():
        mine, theirs = said.get(alias, "nowhere"), held.get(alias, "nowhere")
        if mine != theirs:
            raise Conflict(
                f"{name}: {alias} is {theirs}, the journal has {mine}: moved by others, or a crash came in between; "
                "move it again to mend it"
            )
    for version in listed(name):
        for alias in version.aliases:
            check_signature(version)
            check_backed(version, alias)


def tag_finalists(name: str, best: Mapping[str, Version]) -> None:
    """Mark the best version of each trainer of the newest sweep, and no other version."""
    wanted = {f"{_FINALIST}{trainer}": version.number for trainer, version in best.items()}
    with alone(f"{name}.aliases"):
        held = aliases_of(name)
        for alias, number in wanted.items():
            if held.get(alias) != number:
                _move(name, alias, number, why="best of its trainer in the newest sweep")
        for alias in held:
            if alias.startswith(_FINALIST) and alias not in wanted:
                _move(name, alias, None, why="no trainer of the newest sweep")


def tag_student(version: Version) -> None:
    """Mark the version that learned from another one, the newest such."""
    with alone(f"{version.name}.aliases"):
        if alias_of(version.name, "student") != version.number:
            _move(version.name, "student", version.number, why="the newest student")


def finalists(name: str) -> tuple[Version, ...]:
    """Return the best version of each trainer in the newest sweep."""
    return tuple(v for v in listed(name) if any(alias.startswith(_FINALIST) for alias in v.aliases))


def _mover(name: str, alias: str) -> str:
    """Return who asks, by name; raise Forbidden unless they may move the alias."""
    known = access()
    return allow(known.role(alias) if known else "viewer", name)


def _check_agreed(version: Version, alias: str, me: str) -> None:
    known, asked = access(), asked_approvals(version)
    if known is None and asked > 1:
        raise Forbidden(
            f"{version}: its spec asks that {asked} people approve, which needs an access file that says who they are"
        )
    if known is None:
        return
    check_signature(version)
    now = standing_of(known, version, alias)
    people = now.people | {me}
    if len(people) < now.needed:
        raise Forbidden(
            f"{version}: {now.needed} people must agree that it becomes {alias}, so far: {', '.join(sorted(people))}; "
            f"another one runs: raymlops models approve {version}"
        )


def _is_backed(version: Version, alias: str) -> bool:
    try:
        check_backed(version, alias)
    except Conflict:
        return False
    return True


def _move(
    name: str, alias: str, number: int | None, *, why: str, evidence: Mapping[str, JsonValue] | None = None
) -> None:
    """Move an alias, or take it away; the journal first, so that no move is ever without a line."""
    known = access()
    role = known.role(alias) if known else "viewer"
    before = alias_of(name, alias)
    entry = note(name, "alias", role=role, version=number, alias=alias, before=before, why=why, evidence=evidence)
    if number is None:
        client().delete_registered_model_alias(name, alias)
    else:
        client().set_registered_model_alias(name, alias, str(number))
    written(name, entry)
