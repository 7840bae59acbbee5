"""One JSON text for one value, and sha256 over it: what identities are made of."""

import hashlib
from pathlib import Path
from typing import Any

import orjson

__all__ = ["digest", "digest_file", "digest_folder", "dumps"]

_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_SERIALIZE_NUMPY


def dumps(value: Any, *, indent: bool = False) -> bytes:
    """Return sorted UTF-8 JSON; equal values give equal bytes.

    >>> dumps({"b": 1, "a": (2,)})
    b'{"a":[2],"b":1}'
    """
    return orjson.dumps(value, option=_OPTIONS | (orjson.OPT_INDENT_2 if indent else 0))


def digest(value: Any) -> str:
    """Return the sha256 of a value's canonical JSON, 64 hexadecimal digits."""
    return hashlib.sha256(dumps(value)).hexdigest()


def digest_file(path: Path) -> str:
    """Return the sha256 of a file's bytes, read in chunks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_folder(folder: Path) -> str:
    """Return the sha256 over names and contents of all files below a folder; names are relative, sorted."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return digest([[path.relative_to(folder).as_posix(), digest_file(path)] for path in files])
