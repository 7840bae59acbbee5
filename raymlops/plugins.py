"""Find kinds by name: one file of a plural folder is one kind. Knows nothing of what a kind does.

A kind is written in YAML as its name (`native`), as its name and first option (`parquet: data/*.parquet`), or
as its name and options (`parquet: {path: data/*.parquet}`). Kinds of other packages come through entry points of
the group `raymlops.FOLDER`, such as `raymlops.sources`.
"""

import importlib
import inspect
import pkgutil
import sys
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from raymlops.errors import SpecError
from raymlops.values import JsonValue

__all__ = ["build", "kind_names", "kind_of", "options_of", "source_digest", "suggestion"]


def kind_names(package: str) -> tuple[str, ...]:
    """Return the names of the kinds in a plural folder, such as `raymlops.data.sources`, and of installed ones."""
    folder = importlib.import_module(package)
    own = {module.name for module in pkgutil.iter_modules(folder.__path__)}
    return tuple(sorted(own | {point.name for point in _installed(package)}))


def kind_of(package: str, name: str, *, where: str) -> type[Any]:
    """Return the dataclass of a kind; raise SpecError with the nearest name when there is none."""
    names = kind_names(package)
    if name not in names:
        raise SpecError(f"{where}: unknown kind {name!r}, known are {', '.join(names)}{suggestion(name, names)}")
    for point in _installed(package):
        if point.name == name:
            loaded = point.load()
            assert isinstance(loaded, type)
            return loaded
    module = importlib.import_module(f"{package}.{name}")
    own = [c for _, c in inspect.getmembers(module, inspect.isclass) if c.__module__ == module.__name__]
    public = [c for c in own if is_dataclass(c) and c.__name__ in getattr(module, "__all__", ())]
    assert len(public) == 1, f"{module.__name__} must export one dataclass in __all__, has {public}"
    return public[0]


def options_of(kind: type[Any]) -> tuple[str, ...]:
    """Return the names of a kind's options, in the order of its fields."""
    return tuple(field.name for field in fields(kind))


def source_digest(package: str, name: str) -> str:
    """Return the sha256 of the file that a kind stands in, for identities: a kind from outside may change by itself."""
    return sha256(Path(inspect.getfile(kind_of(package, name, where=package))).read_bytes()).hexdigest()


def build(package: str, value: JsonValue, *, where: str) -> Any:
    """Return the kind that a YAML value describes; raise SpecError with every problem and its place."""
    name, options = _named(value, where=where)
    kind: Any = kind_of(package, name, where=where)
    known = options_of(kind)
    if not isinstance(options, dict):
        if not known:
            raise SpecError(f"{where}.{name}: takes no option, {options!r} given")
        options = {known[0]: options}
    unknown = [key for key in options if key not in known]
    problems = [
        f"{where}.{name}.{key}: unknown option{suggestion(key, known)}, known are {', '.join(known) or 'none'}"
        for key in unknown
    ]
    try:
        made = _adapter(kind).validate_python({k: v for k, v in options.items() if k not in unknown})
    except ValidationError as error:
        problems += [_problem(f"{where}.{name}", line) for line in error.errors()]
    if problems:
        raise SpecError(*problems)
    return made


@lru_cache(maxsize=256)
def _adapter(kind: Any) -> TypeAdapter[Any]:
    # To make one takes as long as fifty checks by it, and a sweep builds a trainer for each of its trials.
    return TypeAdapter(kind)


def suggestion(word: str, known: tuple[str, ...]) -> str:
    """Return `; did you mean 'x'?` for the nearest known word, or nothing.

    >>> suggestion("xgbost", ("pytorch", "xgboost"))
    "; did you mean 'xgboost'?"
    """
    near = get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def _installed(package: str) -> tuple[Any, ...]:
    return _entry_points(package.rsplit(".", 1)[1], tuple(sys.path))


@lru_cache(maxsize=64)
def _entry_points(folder: str, path: tuple[str, ...]) -> tuple[Any, ...]:
    # Looking through every installed package takes 12 ms, and a worker of a batch run asks ten times.
    return tuple(entry_points(group=f"raymlops.{folder}"))


def _named(value: JsonValue, *, where: str) -> tuple[str, Any]:
    if isinstance(value, str):
        return value, {}
    if isinstance(value, dict) and len(value) == 1:
        name, options = next(iter(value.items()))
        return str(name), {} if options is None else options
    raise SpecError(f"{where}: {value!r} given; write a kind as `name` or `name: {{option: value}}`")


def _problem(where: str, line: Any) -> str:
    place = ".".join([where, *(str(part) for part in line["loc"])])
    return f"{place}: {line['msg']}" + ("" if line["type"] == "missing" else f", {line['input']!r} given")
