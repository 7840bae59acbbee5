"""Files of a run in an object store: uploaded whole, shown by one object that only the first commit can put.

A store has no rename, so the parts of a run lie where they stay, at `URL/RUN/`, and the object `_manifest.json` says
that they are all there and no others are. The first commit that puts `_parts.json` decides which parts those are; every
later one, also after a crash, ends what that one began. Knows nothing of formats.
"""

from collections.abc import Iterable, Sequence, Set
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa

from raymlops.codec import dumps
from raymlops.data.staging import MANIFEST, Opener, cut, write_file
from raymlops.data.stores import open_store, reading, writing
from raymlops.errors import StageFailed
from raymlops.values import Part

if TYPE_CHECKING:
    from obstore.store import ObjectStore

__all__ = ["commit_objects", "remove_objects", "shown_objects", "write_objects"]

_DECISION = "_parts.json"


def write_objects(
    tables: Iterable[pa.Table], *, url: str, run: str, name: str, ending: str, limit: int, writer: Opener
) -> list[Part]:
    """Upload tables as objects `NAME-000-DIGESTENDING` of at most `limit` rows below `URL/RUN/`.

    DIGEST covers the object's bytes, so that a second writer never changes what the first one wrote. A run whose
    parts are decided gets no more objects. One file at a time lies on the local disk. Raise StageFailed or Unavailable.
    """
    store = open_store(f"{url.rstrip('/')}/{run}")
    made = []
    with writing(url, f"{name} cannot be written"), TemporaryDirectory(prefix="raymlops-") as folder:
        late = _size(store, _DECISION) is not None
        for index, chunk in enumerate(cut(tables, limit)):
            file = Path(folder) / f"{index}"
            written = write_file(chunk, writer=writer, path=file)
            part = replace(written, name=f"{name}-{index:03}-{written.sha256[:16]}{ending}")
            if not late:
                _upload(store, part, file)
            file.unlink()
            made.append(part)
    return made


def commit_objects(*, url: str, run: str, parts: Sequence[Part], manifest: bytes) -> bool:
    """Put `URL/RUN/_manifest.json` once every part is there and everything else is gone; False if it was put before.

    Raise StageFailed, with no manifest put, when a part is not there; Unavailable when the store does not answer.
    """
    store = open_store(f"{url.rstrip('/')}/{run}")
    with writing(url, f"run {run} cannot be committed"):
        if _size(store, MANIFEST) is not None:
            return False
        decision = _decided(store)
        if decision is None:
            _all_there(store, f"{url}/{run}", {part.name: part.size_bytes for part in parts})
            wanted = {"parts": [asdict(part) for part in parts], "manifest": manifest.decode()}
            _put_first(store, _DECISION, dumps(wanted))
            decision = _decided(store)
            assert decision is not None
        named = {part["name"]: part["size_bytes"] for part in decision["parts"]}
        _all_there(store, f"{url}/{run}", named)
        _remove_others(store, named.keys() | {_DECISION, MANIFEST})
        return _put_first(store, MANIFEST, decision["manifest"].encode())


def shown_objects(manifest: str) -> list[str]:
    """Return the URLs of the parts of the run whose `_manifest.json` has this URL, in order; none before its commit.

    They are those that the first commit named: what an orphan put beside them since is not of the run.
    """
    prefix = manifest.removesuffix(MANIFEST)
    store = open_store(prefix.rstrip("/"))
    with reading(manifest):
        decision = _decided(store) if _size(store, MANIFEST) is not None else None
    return sorted(prefix + part["name"] for part in (decision or {"parts": []})["parts"])


def remove_objects(prefix: str, *, besides: Set[str]) -> None:
    """Remove every object below a prefix whose name there is not given; raise StageFailed or Unavailable."""
    with writing(prefix, "what is left over cannot be removed"):
        _remove_others(open_store(prefix), besides)


def _remove_others(store: "ObjectStore", named: Set[str]) -> None:
    import obstore

    left = _listed(store).keys() - named
    if left:
        obstore.delete(store, sorted(left))


def _upload(store: "ObjectStore", part: Part, file: Path) -> None:
    import obstore

    if _size(store, part.name) != part.size_bytes:
        obstore.put(store, part.name, file)


def _all_there(store: "ObjectStore", where: str, named: dict[str, int]) -> None:
    there = _listed(store)
    absent = sorted(name for name, size in named.items() if there.get(name) != size)
    if absent:
        raise StageFailed(f"{where}: {len(absent)} of {len(named)} parts are not there, the first is {absent[0]}")


def _listed(store: "ObjectStore") -> dict[str, int]:
    import obstore

    return {one["path"]: one["size"] for chunk in obstore.list(store) for one in chunk}


def _size(store: "ObjectStore", name: str) -> int | None:
    import obstore

    try:
        return obstore.head(store, name)["size"]
    except FileNotFoundError:
        return None


def _decided(store: "ObjectStore") -> Any:
    import obstore

    try:
        return orjson.loads(bytes(obstore.get(store, _DECISION).bytes()))
    except FileNotFoundError:
        return None


def _put_first(store: "ObjectStore", name: str, data: bytes) -> bool:
    import obstore
    from obstore.exceptions import AlreadyExistsError

    try:
        obstore.put(store, name, data, mode="create")
    except AlreadyExistsError:
        return False
    return True
