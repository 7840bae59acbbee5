"""What a source held when it was read: every file, query or table version by name, with the hash of what it held.

Knows nothing of models. Names are those below the source's own folder, so equal data has the same manifest anywhere.
"""

import os
import re
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path

import yaml

from raymlops.codec import digest
from raymlops.data.files import content
from raymlops.data.folders import folder_values
from raymlops.errors import DataError
from raymlops.protocols import Source
from raymlops.values import JsonValue, Piece

__all__ = ["manifest", "source_digest"]

_PLACE = re.compile(r"/|[a-z0-9]+://")


def manifest(rows: Source) -> dict[str, JsonValue]:
    """Return the `source_digest`, and each thing that was read: its name, rows and hash, the sha256 of a file's bytes.

    The name of a query is its text, that of a Delta table's file ends with the table's version. Where DVC tracks a
    file or its folder, ``dvc`` holds where its `.dvc` file lies and the hash in it.
    """
    pieces = rows.pieces()
    found = _by_name(pieces)
    root = _root(list(found))
    held: list[JsonValue] = [
        {
            "name": name.removeprefix(root),
            "rows": _sum(parts),
            "hash": content(name) if os.path.isfile(name) else digest([piece.fingerprint for piece in parts]),
        }
        for name, parts in found.items()
    ]
    tracked: JsonValue = {os.path.relpath(name, root): hashed for name, hashed in _dvc(list(found))}
    return {"digest": _digest(rows, pieces), "held": held, **({"dvc": tracked} if tracked else {})}


def source_digest(rows: Source) -> str:
    """Return a digest of every byte of the source's files: equal data has it everywhere, however it came there.

    What folders say of a file belongs to it. Of what is no file the fingerprint stands for the bytes.
    """
    return _digest(rows, rows.pieces())


def _digest(rows: Source, pieces: Sequence[Piece]) -> str:
    marks = dict.fromkeys((piece.source, piece.fingerprint) for piece in pieces)
    said = {name: folder_values(name, "") for name, _ in marks if os.path.isfile(name)}
    columns = rows.schema().names if any(said.values()) else []
    known = {name: {key: text for key, text in values.items() if key in columns} for name, values in said.items()}
    return digest(
        [
            ([content(name), known[name]] if known[name] else content(name)) if name in known else mark
            for name, mark in marks
        ]
    )


def _by_name(pieces: Sequence[Piece]) -> dict[str, list[Piece]]:
    found: dict[str, list[Piece]] = {}
    for piece in pieces:
        found.setdefault(piece.source, []).append(piece)
    return found


def _sum(pieces: Sequence[Piece]) -> int | None:
    counts = [piece.rows for piece in pieces]
    return None if None in counts else sum(count or 0 for count in counts)


def _root(names: Sequence[str]) -> str:
    """Return what the names of files begin with, up to a slash; nothing for a query."""
    if not all(_PLACE.match(name) for name in names):
        return ""
    first, last = min(names, default=""), max(names, default="")
    shared = "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))
    return shared[: shared.rfind("/") + 1]


def _dvc(names: Sequence[str]) -> Iterator[tuple[Path, str]]:
    """Yield the `.dvc` file of each file and of the folders that it lies in, and the hash in it."""
    places = {place for name in names if name.startswith("/") for place in (Path(name), *Path(name).parents)}
    for place in sorted(places - {Path("/")}):
        pointer = place.with_name(f"{place.name}.dvc")
        if pointer.is_file():
            yield pointer, _pointed(pointer)


def _pointed(pointer: Path) -> str:
    try:
        outs = yaml.safe_load(pointer.read_bytes())["outs"]
        return str(next(out.get("md5") or out["hash"] for out in outs))
    except (yaml.YAMLError, KeyError, TypeError, StopIteration, OSError) as error:
        raise DataError(f"{pointer}: is no file of DVC, which names what it tracks under `outs` ({error!r})") from error
