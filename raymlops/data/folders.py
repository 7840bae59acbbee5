"""Columns that folders name: `year=2013/month=01/x.parquet`. Knows nothing of files' bytes."""

import re
from collections.abc import Mapping, Sequence
from urllib.parse import unquote

import pyarrow as pa

from raymlops.errors import DataError

__all__ = ["constants", "folder_schema", "folder_values"]

_NULL = "__HIVE_DEFAULT_PARTITION__"
_WHOLE = re.compile(r"[+-]?\d+")


def folder_values(name: str, root: str) -> dict[str, str | None]:
    """Return what the folders between `root` and the file say, as text; None stands for a null.

    >>> folder_values("/data/year=2013/place=New%20York/x.csv", "/data")
    {'year': '2013', 'place': 'New York'}
    """
    folders = name.removeprefix(root).split("/")[:-1]
    pairs = [folder.split("=", 1) for folder in folders if "=" in folder]
    return {unquote(key): None if value == _NULL else unquote(value) for key, value in pairs}


def folder_schema(named: Mapping[str, Mapping[str, str | None]]) -> pa.Schema:
    """Return the columns that the folders of all files name: int64 where every value is a whole number, else string.

    `named` is `folder_values` by file. Raise DataError when files lie in folders of other names.
    """
    first = next(iter(named), "")
    keys = list(named[first]) if named else []
    for file, values in named.items():
        if list(values) != keys:
            shown = [" / ".join(f"{key}=…" for key in names) or "no such folder" for names in (values, keys)]
            raise DataError(f"{file}: lies in {shown[0]}, {first} in {shown[1]}; all files must lie in folders alike")
    return pa.schema([(key, _type([values[key] for values in named.values()])) for key in keys])


def constants(values: Mapping[str, str | None], schema: pa.Schema) -> dict[str, pa.Scalar]:
    """Return a file's `folder_values` in the types of the columns."""
    texts = {name: pa.scalar(values[name], pa.string()) for name in schema.names}
    return {name: text.cast(schema.field(name).type) for name, text in texts.items()}


def _type(texts: Sequence[str | None]) -> pa.DataType:
    held = [text for text in texts if text is not None]
    whole = all(_WHOLE.fullmatch(text) and -(1 << 63) <= int(text) < 1 << 63 for text in held)
    return pa.int64() if held and whole else pa.string()
