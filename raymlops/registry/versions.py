"""Versions in MLflow's registry, by name, number and alias. Knows nothing of how they came there."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from raymlops.errors import Conflict, NotFound, SpecError
from raymlops.plugins import suggestion
from raymlops.registry import journal
from raymlops.registry.access import Access, access, allow
from raymlops.registry.depot import fetched
from raymlops.registry.folder import verify_folder
from raymlops.registry.mlflow_client import client
from raymlops.registry.rules import Standing, standing
from raymlops.registry.signature import check_signature
from raymlops.registry.stored import stored_version, stored_versions
from raymlops.values import Version

__all__ = [
    "alias_of",
    "aliases_of",
    "asked_approvals",
    "check_backed",
    "checked",
    "listed",
    "made_of",
    "resolve",
    "standing_of",
]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


def resolve(ref: str) -> Version:
    """Return a version by `NAME`, `NAME@3` or `NAME@alias`; `NAME` means its champion. Its bytes are verified.

    Raise NotFound with what there is, Conflict when the bytes are not those that were registered. With an access file
    a version that an alias names must be signed, and have come there as the file asks: else Conflict as well.
    """
    name, _, which = ref.partition("@")
    which = which or "champion"
    checked(name)
    allow("viewer", name)
    found = stored_version(name, which)
    versions = [found] if found is not None else listed(name)
    if not versions:
        names = tuple(model.name for model in _all(client().search_registered_models))
        raise NotFound(f"model {name!r}: is not registered{suggestion(name, names)}; run `raymlops train SPEC`")
    for version in versions:
        if which == str(version.number) or which in version.aliases:
            version = fetched(version)
            verify_folder(version.path, version.digest)
            if which in version.aliases:
                check_signature(version)
                check_backed(version, which)
            return version
    known = ", ".join(f"{version.number}" + "".join(f" ({alias})" for alias in version.aliases) for version in versions)
    raise NotFound(f"model {name!r}: has no version or alias {which!r}; it has {known}")


def listed(name: str | None = None) -> list[Version]:
    """Return every version of a model, or of all models, oldest first."""
    if name is not None:
        checked(name)
        allow("viewer", name)
        stored = stored_versions(name)
        if stored is not None:
            return stored
    found = []
    for model in _all(client().search_registered_models, filter_string=f"name = '{name}'" if name else None):
        allow("viewer", model.name)
        aliases = client().get_registered_model(model.name).aliases
        rows = _all(client().search_model_versions, filter_string=f"name = '{model.name}'")
        found += sorted((made_of(model.name, row, aliases) for row in rows), key=lambda version: version.number)
    return found


def check_backed(version: Version, alias: str) -> None:
    """Raise Conflict unless an alias came to a version as the access file asks; without one every way is right."""
    known = access()
    if known is None:
        return
    why = standing_of(known, version, alias).unbacked
    if why:
        raise Conflict(
            f"{version.name}: {alias} is {version}, but {why}; who may, moves it again: "
            f"raymlops models promote {version}"
        )


def standing_of(known: Access, version: Version, alias: str) -> Standing:
    """Return how an alias and a version stand to each other by the journal."""
    return standing(
        known,
        journal.read(version.name, signatures=False),
        version.name,
        alias,
        version.number,
        digest=version.digest,
        asked=asked_approvals(version),
    )


def asked_approvals(version: Version) -> int:
    """Return how many people must agree to a version by the spec that it was made of, 1 where that says nothing."""
    path = version.path / "lineage.json"
    registry = orjson.loads(path.read_bytes()).get("spec", {}).get("registry", {}) if path.is_file() else {}
    return int(registry.get("approvals", 1))


def alias_of(name: str, alias: str) -> int | None:
    """Return the number of the version that has an alias, None where nobody has it."""
    found = stored_version(name, alias)
    if found is not None:
        return found.number
    return next((version.number for version in listed(name) if alias in version.aliases), None)


def aliases_of(name: str) -> dict[str, int]:
    """Return every alias of a model and the number of its version."""
    return {alias: version.number for version in listed(name) for alias in version.aliases}


def made_of(name: str, row: Any, aliases: dict[str, str]) -> Version:
    """Return the version that a row of MLflow's describes."""
    return Version(
        name=name,
        number=int(row.version),
        digest=row.tags["digest"],
        path=Path(row.tags["path"]),
        aliases=tuple(sorted(alias for alias, number in aliases.items() if str(number) == str(row.version))),
    )


def checked(name: str) -> None:
    """Raise SpecError for a text that cannot be the name of a model."""
    if not _NAME.fullmatch(name):
        raise SpecError(f"model name {name!r:.80}: allowed are letters, digits, - and _, at most 63, the first no sign")


def _all(search: Callable[..., Any], **query: Any) -> Iterator[Any]:
    """Yield what a search of MLflow finds, page after page."""
    token = None
    while True:
        page = search(**query, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
