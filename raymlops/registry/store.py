"""Versions and aliases in MLflow's registry. Aliases: `champion` answers, `previous` is what it replaced."""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from raymlops.errors import Conflict, NotFound, SpecError
from raymlops.plugins import suggestion
from raymlops.registry import journal
from raymlops.registry.folder import verify_folder
from raymlops.registry.journal import Entry
from raymlops.registry.mlflow_client import alone, client
from raymlops.registry.stored import stored_version, stored_versions
from raymlops.values import JsonValue, Version

__all__ = [
    "check_aliases",
    "finalists",
    "history",
    "listed",
    "note",
    "promote",
    "register",
    "resolve",
    "rollback",
    "tag_finalists",
    "tag_student",
]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_FINALIST = "finalist-"
_TIP = "raymlops.journal"  # the tag that holds how far the journal goes


def register(name: str, *, digest: str, path: Path, run_id: str | None, tags: dict[str, str]) -> Version:
    """Return the version that holds these bytes, made if there is none: the same bytes are the same version."""
    _checked(name)
    mlflow = client()
    for version in listed(name):
        if version.digest == digest:
            return version
    if not mlflow.search_registered_models(filter_string=f"name = '{name}'"):
        mlflow.create_registered_model(name)
    made = mlflow.create_model_version(
        name, source=path.as_uri(), run_id=run_id, tags={**tags, "digest": digest, "path": str(path)}
    )
    version = _version(name, made, {})
    _keep_tip(name, note(name, "registered", version=version.number, evidence={"digest": digest, **tags}))
    return version


def resolve(ref: str) -> Version:
    """Return a version by `NAME`, `NAME@3` or `NAME@alias`; `NAME` means its champion. Its bytes are verified.

    Raise NotFound with what there is, Conflict when the bytes are not those that were registered.
    """
    name, _, which = ref.partition("@")
    which = which or "champion"
    _checked(name)
    found = stored_version(name, which)
    versions = [found] if found is not None else listed(name)
    if not versions:
        names = tuple(model.name for model in _all(client().search_registered_models))
        raise NotFound(f"model {name!r}: is not registered{suggestion(name, names)}; run `raymlops train SPEC`")
    for version in versions:
        if which == str(version.number) or which in version.aliases:
            verify_folder(version.path, version.digest)
            return version
    known = ", ".join(f"{version.number}" + "".join(f" ({alias})" for alias in version.aliases) for version in versions)
    raise NotFound(f"model {name!r}: has no version or alias {which!r}; it has {known}")


def listed(name: str | None = None) -> list[Version]:
    """Return every version of a model, or of all models, oldest first."""
    if name is not None:
        _checked(name)
        stored = stored_versions(name)
        if stored is not None:
            return stored
    found = []
    for model in _all(client().search_registered_models, filter_string=f"name = '{name}'" if name else None):
        aliases = client().get_registered_model(model.name).aliases
        rows = _all(client().search_model_versions, filter_string=f"name = '{model.name}'")
        found += sorted((_version(model.name, row, aliases) for row in rows), key=lambda version: version.number)
    return found


def promote(
    ref: str, *, expected: str | None = None, why: str = "", evidence: Mapping[str, JsonValue] | None = None
) -> Version:
    """Make a version the champion and the present champion `previous`; doing it again changes nothing.

    ``why`` and ``evidence`` stand in the journal. With `expected`, the reference of the champion that the caller saw,
    raise Conflict if it is another by now: of those who saw the same one, one wins.
    """
    version = resolve(ref)
    with alone(f"{version.name}.aliases"):
        champion = _alias(version.name, "champion")
        if expected is not None and champion != resolve(expected).number:
            raise Conflict(f"{version.name}: the champion is version {champion}, not {expected}; look, then retry")
        if champion != version.number:
            if champion is not None:
                _move(version.name, "previous", champion, why=why)
            _move(version.name, "champion", version.number, why=why, evidence=evidence)
    return resolve(f"{version.name}@{version.number}")


def rollback(name: str, *, why: str = "") -> Version:
    """Make the previous version the champion again."""
    previous = _alias(name, "previous")
    if previous is None:
        raise NotFound(f"{name}: has no previous version to go back to")
    return promote(f"{name}@{previous}", why=why or "rollback")


def note(
    name: str, what: str, *, version: int | None, why: str = "", evidence: Mapping[str, JsonValue] | None = None
) -> Entry:
    """Write a line into the journal of a model: what happened to a version, that it was served for one."""
    _adopt(name)
    return journal.append(name, what, version=version, why=why, evidence=evidence)


def history(name: str, *, until: datetime | None = None) -> list[Entry]:
    """Return the journal of a model, of the time before a moment if one is given.

    Raise Conflict when a line was changed, or lines were cut out, also at the end: how far it went MLflow knows too.
    """
    _checked(name)
    entries = journal.read(name)
    kept = _registered(name).tags.get(_TIP, "") if listed(name) else ""
    number, _, last = kept.partition(":")
    if kept and (len(entries) < int(number) or entries[int(number) - 1].hash != last):
        said = f"its journal had {number} lines and has {len(entries)}"
        raise Conflict(f"{name}: {said}; lines at its end were cut off or replaced, restore the file")
    return [entry for entry in entries if until is None or datetime.fromisoformat(entry.time) < until]


def check_aliases(name: str) -> None:
    """Raise Conflict when an alias was moved by anybody but us, so that the journal does not say by whom and why."""
    entries = history(name)
    said = journal.aliases_at(entries)
    held = {alias: version.number for version in listed(name) for alias in version.aliases}
    for alias in sorted({*said, *held}) if entries else ():
        mine, theirs = said.get(alias, "nowhere"), held.get(alias, "nowhere")
        if mine != theirs:
            raise Conflict(
                f"{name}: {alias} is {theirs}, the journal has {mine}: moved by others, or a crash came in between; "
                "move it again to mend it"
            )


def tag_finalists(name: str, best: Mapping[str, Version]) -> None:
    """Mark the best version of each trainer of the newest sweep, and no other version."""
    wanted = {f"{_FINALIST}{trainer}": version.number for trainer, version in best.items()}
    held = _registered(name).aliases
    for alias, number in wanted.items():
        if str(held.get(alias)) != str(number):
            _move(name, alias, number, why="best of its trainer in the newest sweep")
    for alias in held:
        if alias.startswith(_FINALIST) and alias not in wanted:
            _move(name, alias, None, why="no trainer of the newest sweep")


def tag_student(version: Version) -> None:
    """Mark the version that learned from another one, the newest such."""
    if _alias(version.name, "student") != version.number:
        _move(version.name, "student", version.number, why="the newest student")


def finalists(name: str) -> tuple[Version, ...]:
    """Return the best version of each trainer in the newest sweep."""
    return tuple(v for v in listed(name) if any(alias.startswith(_FINALIST) for alias in v.aliases))


def _move(
    name: str, alias: str, number: int | None, *, why: str, evidence: Mapping[str, JsonValue] | None = None
) -> None:
    """Move an alias, or take it away; the journal first, so that no move is ever without a line."""
    _adopt(name)
    before = _alias(name, alias)
    entry = journal.append(name, "alias", version=number, alias=alias, before=before, why=why, evidence=evidence)
    if number is None:
        client().delete_registered_model_alias(name, alias)
    else:
        client().set_registered_model_alias(name, alias, str(number))
    _keep_tip(name, entry)


def _adopt(name: str) -> None:
    """Begin the journal of a model that is older than it with where its aliases stand."""
    if not journal.exists(name):
        for version in listed(name):
            for alias in version.aliases:
                journal.append(name, "alias", version=version.number, alias=alias, why="stood there before the journal")


def _keep_tip(name: str, entry: Entry) -> None:
    client().set_registered_model_tag(name, _TIP, journal.tip(entry))


def _registered(name: str) -> Any:
    return client().get_registered_model(name)


def _alias(name: str, alias: str) -> int | None:
    found = stored_version(name, alias)
    if found is not None:
        return found.number
    return next((version.number for version in listed(name) if alias in version.aliases), None)


def _all(search: Callable[..., Any], **query: Any) -> Iterator[Any]:
    """Yield what a search of MLflow finds, page after page."""
    token = None
    while True:
        page = search(**query, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _version(name: str, row: Any, aliases: dict[str, str]) -> Version:
    return Version(
        name=name,
        number=int(row.version),
        digest=row.tags["digest"],
        path=Path(row.tags["path"]),
        aliases=tuple(sorted(alias for alias, number in aliases.items() if str(number) == str(row.version))),
    )


def _checked(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise SpecError(f"model name {name!r:.80}: allowed are letters, digits, - and _, at most 63, the first no sign")
