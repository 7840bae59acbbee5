"""What two versions differ in: parameters, metrics, rows, features, packages. Knows nothing of how they are shown."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from raymlops.values import JsonValue, Version

__all__ = ["Difference", "diff"]

_FILES = ("model.json", "evaluation.json", "lineage.json", "contract.json")
_MISSING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A place in the description of a version, such as `evaluation.metrics.auc`, and what stands there in each."""

    place: str
    before: JsonValue
    after: JsonValue


def diff(before: Version, after: Version) -> list[Difference]:
    """Return where the descriptions of two versions differ, ordered by place; "nothing" where one has none."""
    sides = [dict(_places(version)) for version in (before, after)]
    places = sorted({*sides[0], *sides[1]})
    found = [
        Difference(place=place, before=sides[0].get(place, _MISSING), after=sides[1].get(place, _MISSING))
        for place in places
    ]
    return [one for one in found if one.before != one.after]


def _places(version: Version) -> Iterator[tuple[str, JsonValue]]:
    for name in _FILES:
        path = version.path / name
        if path.is_file():
            yield from _leaves(name.removesuffix(".json"), orjson.loads(path.read_bytes()))


def _leaves(place: str, value: Any) -> Iterator[tuple[str, JsonValue]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(f"{place}.{key}", inner)
    elif isinstance(value, list) and any(isinstance(one, Mapping) for one in value):
        for index, one in enumerate(value):
            named = isinstance(one, Mapping) and "name" in one
            inner = {key: held for key, held in one.items() if key != "name"} if named else one
            yield from _leaves(f"{place}.{one['name'] if named else index}", inner)
    else:
        yield place, value
