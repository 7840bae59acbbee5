"""Object stores by URL, `s3://…` and `gs://…`, as the environment describes them. Knows nothing of runs or formats.

`obstore` and not `pyarrow.fs`: it can put an object if it is absent and get it if it is still the same, it takes the
same variables for reading as for writing; pyarrow 25 does not look at `AWS_ENDPOINT_URL`.
"""

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

import pyarrow as pa

from raymlops.errors import DataError, MissingExtra, StageFailed, Unavailable

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore, RetryConfig

__all__ = [
    "RemoteFile",
    "first_line",
    "is_url",
    "objects",
    "open_store",
    "reading",
    "state",
    "storage_options",
    "writing",
]

_RETRIES: "RetryConfig" = {"max_retries": 8, "retry_timeout": timedelta(seconds=60)}
_URL = re.compile(r"(s3|gs)://")


def is_url(path: str) -> bool:
    """Return whether a path is in an object store.

    >>> is_url("s3://bucket/key"), is_url("data/x.parquet")
    (True, False)
    """
    return _URL.match(path) is not None


def open_store(url: str) -> "ObjectStore":
    """Return the store whose paths are those below `url`; raise MissingExtra without obstore, StageFailed if unfit."""
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError as error:
        raise MissingExtra(f"{url}: an object store needs `pip install raymlops[cloud]`") from error
    try:
        if url.startswith("gs://"):
            return from_url(url, retry_config=_RETRIES)
        return from_url(url, retry_config=_RETRIES, client_options={"allow_http": _plain_http()})
    except BaseError as error:
        raise StageFailed(f"{url}: {first_line(error)}") from error


def storage_options(url: str) -> dict[str, str] | None:
    """Return what `deltalake` must be told of a store beside what it takes from the environment; None of a folder."""
    if not is_url(url):
        return None
    known = {"max_retries": str(_RETRIES["max_retries"]), "retry_timeout": "60s"}
    if url.startswith("s3://"):
        known |= {"aws_conditional_put": "etag", "allow_http": str(_plain_http()).lower()}
    return known


def _plain_http() -> bool:
    """Return whether the environment names an S3 without TLS: who does, as of a store of their own, means it."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    return endpoint.startswith("http://")


def objects(prefix: str) -> Iterator[str]:
    """Yield the URLs of all objects below a prefix that ends in `/`, in no order."""
    bucket, key = _parted(prefix)
    held = _bucket(bucket)
    import obstore

    with reading(prefix):
        for chunk in obstore.list(held, key.rstrip("/") or None):
            yield from (f"{bucket}/{one['path']}" for one in chunk)


def state(url: str) -> "ObjectMeta":
    """Return size, ETag, version and time of change of an object; raise DataError when it is not there."""
    bucket, key = _parted(url)
    held = _bucket(bucket)
    import obstore

    with reading(url):
        return obstore.head(held, key)


class RemoteFile(io.RawIOBase):
    """An object as a file that is read in ranges; DataError as soon as it is no longer the one that was opened."""

    def __init__(self, url: str) -> None:
        self._url, self._state, self._at = url, state(url), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._state["size"]}[whence]
        self._at = start + offset
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        whole = self._state["size"]
        end = whole if size is None or size < 0 else min(whole, self._at + size)
        if end <= self._at:
            return b""
        import obstore

        bucket, key = _parted(self._url)
        with reading(self._url):
            got = obstore.get(
                _bucket(bucket), key, options={"if_match": self._state["e_tag"], "range": (self._at, end)}
            )
            data = bytes(got.bytes())
        self._at = end
        return data


@contextmanager
def reading(url: str) -> Iterator[None]:
    """Tell what a store answers while something is read as DataError, or as Unavailable when it does not answer."""
    from obstore.exceptions import BaseError, GenericError, PreconditionError

    try:
        yield
    except GenericError as error:
        raise Unavailable(f"{url}: cannot be read: {first_line(error)}") from error
    except PreconditionError as error:
        raise DataError(f"{url}: changed while it was being read; let its writer end, then run again") from error
    except (BaseError, FileNotFoundError, PermissionError) as error:
        raise DataError(f"{url}: cannot be read: {first_line(error)}") from error


@contextmanager
def writing(url: str, what: str) -> Iterator[None]:
    """Tell what a store answers while something is written as StageFailed, or as Unavailable."""
    from obstore.exceptions import BaseError, GenericError

    try:
        yield
    except GenericError as error:
        raise Unavailable(f"{url}: {what}: {first_line(error)}") from error
    except (BaseError, OSError, pa.ArrowException) as error:
        raise StageFailed(f"{url}: {what}: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """Return what an error says without the trace that a library adds."""
    return str(error).split("\n", 1)[0]


def _parted(url: str) -> tuple[str, str]:
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    return f"{scheme}://{bucket}", key


def _bucket(url: str) -> "ObjectStore":
    named = tuple(sorted(item for item in os.environ.items() if item[0].startswith(("AWS_", "GOOGLE_"))))
    return _kept(url, named)


@lru_cache(maxsize=16)
def _kept(url: str, environment: tuple[tuple[str, str], ...]) -> "ObjectStore":
    """Keep a store and its connections for as long as the variables that describe it stay."""
    del environment
    return open_store(url)
