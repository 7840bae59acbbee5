"""Versions and aliases in MLflow's registry. Aliases: `champion` answers, `previous` is what it replaced."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from raymlops.errors import Conflict, NotFound, SpecError
from raymlops.plugins import suggestion
from raymlops.registry.folder import verify_folder
from raymlops.registry.mlflow_client import alone, client
from raymlops.registry.stored import stored_versions
from raymlops.values import Version

__all__ = ["finalists", "listed", "promote", "register", "resolve", "rollback", "tag_finalists", "tag_student"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_FINALIST = "finalist-"


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
    return _version(name, made, {})


def resolve(ref: str) -> Version:
    """Return a version by `NAME`, `NAME@3` or `NAME@alias`; `NAME` means its champion. Its bytes are verified.

    Raise NotFound with what there is, Conflict when the bytes are not those that were registered.
    """
    name, _, which = ref.partition("@")
    which = which or "champion"
    versions = listed(name)
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


def promote(ref: str, *, expected: str | None = None) -> Version:
    """Make a version the champion and the present champion `previous`; doing it again changes nothing.

    With `expected`, the reference of the champion that the caller saw, raise Conflict if it is another by now.
    """
    version = resolve(ref)
    with alone(f"{version.name}.aliases"):
        champion = _alias(version.name, "champion")
        if expected is not None and champion != resolve(expected).number:
            raise Conflict(f"{version.name}: the champion is version {champion}, not {expected}; look, then retry")
        if champion != version.number:
            if champion is not None:
                client().set_registered_model_alias(version.name, "previous", str(champion))
            client().set_registered_model_alias(version.name, "champion", str(version.number))
    return resolve(f"{version.name}@{version.number}")


def rollback(name: str) -> Version:
    """Make the previous version the champion again."""
    previous = _alias(name, "previous")
    if previous is None:
        raise NotFound(f"{name}: has no previous version to go back to")
    return promote(f"{name}@{previous}")


def tag_finalists(name: str, best: Mapping[str, Version]) -> None:
    """Mark the best version of each trainer of the newest sweep, and no other version."""
    wanted = {f"{_FINALIST}{trainer}": version.number for trainer, version in best.items()}
    for alias, number in wanted.items():
        client().set_registered_model_alias(name, alias, str(number))
    for alias in client().get_registered_model(name).aliases:
        if alias.startswith(_FINALIST) and alias not in wanted:
            client().delete_registered_model_alias(name, alias)


def tag_student(version: Version) -> None:
    """Mark the version that learned from another one, the newest such."""
    client().set_registered_model_alias(version.name, "student", str(version.number))


def finalists(name: str) -> tuple[Version, ...]:
    """Return the best version of each trainer in the newest sweep."""
    return tuple(v for v in listed(name) if any(alias.startswith(_FINALIST) for alias in v.aliases))


def _alias(name: str, alias: str) -> int | None:
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
