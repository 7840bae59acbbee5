"""Files of a run in an object store: uploaded whole, shown by one object that only the first commit can put.

A store has no rename, so the parts of a run lie where they stay, at `URL/RUN/`, and the object `_manifest.json` says
that they are all there and no others are. The first commit that puts `_parts.json` decides which parts those are; every
later one, also after a crash, ends what that one began. Knows nothing of formats.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa

from raymlops.codec import dumps
from raymlops.data.staging import MANIFEST, Opener, cut, write_file
from raymlops.errors import MissingExtra, StageFailed, Unavailable
from raymlops.values import Part

if TYPE_CHECKING:
    from obstore.store import ObjectStore, RetryConfig

__all__ = ["commit_objects", "write_objects"]

_DECISION = "_parts.json"
_RETRIES: "RetryConfig" = {"max_retries": 8, "retry_timeout": timedelta(seconds=60)}


def write_objects(
    tables: Iterable[pa.Table], *, url: str, run: str, name: str, ending: str, limit: int, writer: Opener
) -> list[Part]:
    """Upload tables as objects `NAME-000-DIGESTENDING` of at most `limit` rows below `URL/RUN/`.

    DIGEST covers the object's bytes, so that a second writer never changes what the first one wrote. A run whose
    parts are decided gets no more objects. One file at a time lies on the local disk. Raise StageFailed or Unavailable.
    """
    store = _store(f"{url.rstrip('/')}/{run}")
    made = []
    with _told(url, f"{name} cannot be written"), TemporaryDirectory(prefix="raymlops-") as folder:
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
    store = _store(f"{url.rstrip('/')}/{run}")
    with _told(url, f"run {run} cannot be committed"):
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
        left = _listed(store).keys() - named.keys() - {_DECISION, MANIFEST}
        if left:
            import obstore

            obstore.delete(store, sorted(left))
        return _put_first(store, MANIFEST, decision["manifest"].encode())


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


def _store(url: str) -> "ObjectStore":
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError as error:
        raise MissingExtra(f"{url}: an object store needs `pip install raymlops[cloud]`") from error
    try:
        if url.startswith("gs://"):
            return from_url(url, retry_config=_RETRIES)
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
        # Who names an endpoint without TLS, as of a store of their own, means it.
        return from_url(url, retry_config=_RETRIES, client_options={"allow_http": endpoint.startswith("http://")})
    except BaseError as error:
        raise StageFailed(f"{url}: {_first_line(error)}") from error


@contextmanager
def _told(url: str, what: str) -> Iterator[None]:
    from obstore.exceptions import BaseError, GenericError

    try:
        yield
    except GenericError as error:
        raise Unavailable(f"{url}: {what}: {_first_line(error)}") from error
    except (BaseError, OSError, pa.ArrowException) as error:
        raise StageFailed(f"{url}: {what}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0]
