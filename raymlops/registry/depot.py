"""Versions in an object store that several homes share: `$RAYMLOPS_STORE`, such as `s3://bucket/models`.

The home keeps what it made and what it has fetched; a version's folder is named by its bytes, so what is fetched is
checked against its own name, and who writes twice writes the same. Knows nothing of MLflow.
"""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from raymlops.codec import digest_folder, write_aside
from raymlops.data.stores import is_url, objects, open_store, reading, writing
from raymlops.errors import Conflict, DataError, SpecError
from raymlops.registry.access import access
from raymlops.spec import home
from raymlops.values import Version

__all__ = ["fetched", "share"]


def share(*paths: Path) -> None:
    """Put files of the home, and those of folders, into the store at the same place; without a store do nothing."""
    url = _url()
    if url is None:
        return
    files = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    store = open_store(url)
    import obstore

    for file in (one for one in files if one.is_file()):
        place = file.relative_to(home()).as_posix()
        with writing(f"{url}/{place}", "cannot be shared"):
            obstore.put(store, place, file.read_bytes())


def fetched(version: Version) -> Version:
    """Return a version whose folder is on this machine: as it is, from this home, or fetched from the store.

    Raise Conflict for bytes in the store that are not those that were registered, and keep none of them.
    """
    local = home() / "models" / version.digest
    if version.path.is_dir() or (url := _url()) is None:
        return version
    fresh = not local.is_dir()
    if fresh:
        aside = local.with_name(f".{uuid4().hex[:12]}")
        try:
            _fetch(url, f"models/{version.digest}", aside)
            if digest_folder(aside) != version.digest:
                raise Conflict(
                    f"{url}/models/{version.digest}: is not what was registered as {version}; share it again"
                )
            aside.rename(local)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    signature = f"signatures/{version.name}/{version.digest}.json"
    wanted = fresh or access() is not None
    if wanted and not (home() / signature).exists() and f"{url}/{signature}" in set(objects(_above(url, signature))):
        _fetch_file(url, signature, home() / signature)
    return replace(version, path=local)


def _fetch(url: str, place: str, folder: Path) -> None:
    folder.mkdir(parents=True)
    names = sorted(objects(f"{url}/{place}/"))
    if not names:
        raise DataError(
            f"{url}/{place}: holds nothing; share the version from where it was made, by registering it again"
        )
    for name in names:
        below = name.removeprefix(f"{url}/{place}/")
        if "/" in below or below in ("", ".", ".."):
            raise Conflict(f"{name}: no version has such a file; remove it from the store")
        _fetch_file(url, f"{place}/{below}", folder / below)


def _fetch_file(url: str, place: str, path: Path) -> None:
    import obstore

    with reading(f"{url}/{place}"):
        content = bytes(obstore.get(open_store(url), place).bytes())
    write_aside(path, content)


def _above(url: str, place: str) -> str:
    return f"{url}/{place.rpartition('/')[0]}/"


def _url() -> str | None:
    given = os.environ.get("RAYMLOPS_STORE", "").rstrip("/")
    if given and not is_url(given):
        raise SpecError(f"RAYMLOPS_STORE: {given!r} given; s3://BUCKET/PATH or gs://BUCKET/PATH is needed")
    return given or None
