"""Read a spec from YAML and report every mistake at once, each with its line, its place and the right word."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeAlias, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from raymlops.errors import SpecError
from raymlops.plugins import build, kind_of, options_of, suggestion
from raymlops.spec.section import SectionError
from raymlops.spec.sections import DataSpec, Spec, unknown_windows

__all__ = ["load", "parse", "read_mapping"]

_SPEC = "a spec is a mapping of sections such as `data:` and `train:`"

_Place: TypeAlias = tuple[str, ...]


class _Loader(yaml.SafeLoader):
    """YAML 1.2's booleans: only true and false, so that the key `on` is a word and a country `NO` is a text."""


_Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))


def load(path: str | Path) -> Spec:
    """Return the spec in a YAML file; raise SpecError with every problem, as `FILE:LINE: place: what`."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read: {error}") from error
    return parse(text, name=str(path))


def parse(text: str, *, name: str = "spec") -> Spec:
    """Return the spec in a YAML text; `name` stands before the line in messages.

    >>> parse("name: a")
    Traceback (most recent call last):
    ...
    raymlops.errors.SpecError: spec:1: data: is missing
    spec:1: train: is missing
    """
    document = _document(text, name=name)
    problems: list[_Problem] = []
    spec: Spec | None = None
    try:
        spec = Spec.model_validate(document.value)
    except ValidationError as error:
        problems += [problem for line in error.errors() for problem in _worded(line)]
    problems += [*_kind_problems(document.value), *_window_problems(document.value)]
    if problems:
        unique = sorted(set(problems), key=lambda p: (document.line(p.place), p.place, p.text))
        raise SpecError(*(f"{name}:{document.line(p.place)}: {p.text}" for p in unique))
    assert spec is not None
    return spec


@dataclass(frozen=True, slots=True)
class _Problem:
    place: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class _Document:
    value: Mapping[str, Any]
    lines: Mapping[tuple[str, ...], int]

    def line(self, place: tuple[str, ...]) -> int:
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)


def read_mapping(text: str, *, name: str, what: str) -> dict[str, Any]:
    """Return a YAML mapping as a spec is read: no key twice. SpecError says what ``what`` is, where it is none."""
    return dict(_document(text, name=name, what=what).value)


def _document(text: str, *, name: str, what: str = _SPEC) -> _Document:
    try:
        node = yaml.compose(text, Loader=_Loader)
        value = yaml.load(text, Loader=_Loader)  # a SafeLoader: it makes plain values only
    except yaml.YAMLError as error:
        raise SpecError(f"{name}: is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise SpecError(f"{name}:1: {what}, not {value!r:.60}")
    lines: dict[tuple[str, ...], int] = {}
    repeated = _walk(node, (), lines)
    if repeated:
        raise SpecError(*(f"{name}:{line}: {'.'.join(place)}: given twice; keep one" for place, line in repeated))
    return _Document(value, lines)


def _walk(
    node: yaml.Node | None, place: tuple[str, ...], lines: dict[tuple[str, ...], int]
) -> list[tuple[tuple[str, ...], int]]:
    repeated = []
    if isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            here = (*place, str(key.value))
            if here in lines:
                repeated.append((here, key.start_mark.line + 1))
            lines[here] = key.start_mark.line + 1
            repeated += _walk(child, here, lines)
    if isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            lines[(*place, str(index))] = child.start_mark.line + 1
            repeated += _walk(child, (*place, str(index)), lines)
    return repeated


def _worded(line: Any) -> list[_Problem]:
    place = tuple(str(part) for part in line["loc"])
    dotted = ".".join(place) or "spec"
    if line["type"] == "extra_forbidden":
        known = _keys_at(place[:-1])
        return [_Problem(place, f"{dotted}: unknown key{suggestion(place[-1], known)}, known are {', '.join(known)}")]
    if line["type"] == "missing":
        return [_Problem(place, f"{dotted}: is missing")]
    if line["type"] == "value_error":
        error = line["ctx"]["error"]
        texts = error.problems if isinstance(error, SectionError) else [str(error)]
        return [
            _Problem((*place, *text.split(":", 1)[0].split(".")), f"{dotted}.{text}" if place else text)
            for text in texts
        ]
    return [_Problem(place, f"{dotted}: {line['msg']}, {line['input']!r:.80} given")]


def _keys_at(place: tuple[str, ...]) -> tuple[str, ...]:
    model: Any = Spec
    for part in place:
        field = model.model_fields.get(part)
        inner = _models(field.annotation) if field else _models(model)
        model = inner[0] if inner else model
    return tuple(field.alias or name for name, field in model.model_fields.items())


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, UnionType, dict, tuple):
        return [model for part in get_args(annotation) for model in _models(part)]
    return []


def _kind_problems(document: Mapping[str, Any]) -> list[_Problem]:
    """Check what names a kind: sources, engines, drift tests, trainers and their spaces."""
    found: list[_Problem] = []
    single = (
        ("data", "source", "raymlops.data.sources"),
        ("score", "source", "raymlops.data.sources"),
        ("score", "sink", "raymlops.data.sinks"),
        ("train", "search", "raymlops.train.searches"),
        ("optimize", "distill", "raymlops.train.trainers"),
    )
    plural = (("optimize", "engines", "raymlops.engine.engines"), ("monitor", "tests", "raymlops.monitor.drift_tests"))
    for section, key, package in single:
        value = _section(document, section).get(key)
        if value is not None:
            found += _tried(package, value, (section, key))
    for section, key, package in plural:
        values = _section(document, section).get(key)
        for index, value in enumerate(values if isinstance(values, list) else ()):
            found += _tried(package, value, (section, key, str(index)))
    trainers = _section(document, "train").get("trainers")
    for name, body in trainers.items() if isinstance(trainers, dict) else ():
        found += _trainer_problems(str(name), body if isinstance(body, dict) else {})
    return found


def _window_problems(document: Mapping[str, Any]) -> list[_Problem]:
    """Check the names of windows here too: pydantic does so only when every section is right by itself."""
    windows = _section(document, "data").get("windows", DataSpec.model_fields["windows"].default)
    places = (("train", "on", "train"), ("train", "validate", "valid"), ("score", "on", None))
    named = {f"{section}.{key}": _section(document, section).get(key, default) for section, key, default in places}
    # What is no name is FROM/TO or a word for it.
    given = {place: on for place, on in named.items() if isinstance(on, str) and not {"/", "$"} & {*on}}
    texts = unknown_windows(given, [str(name) for name in windows] if isinstance(windows, dict) else [*given.values()])
    return [_Problem(tuple(text.split(":", 1)[0].split(".")), text) for text in texts]


def _section(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = document.get(name)
    return section if isinstance(section, dict) else {}


def _tried(package: str, value: Any, place: _Place, *, where: _Place | None = None) -> list[_Problem]:
    try:
        build(package, value, where=".".join(where or place))
    except SpecError as error:
        return [_Problem(place, text) for text in error.problems]
    return []


def _trainer_problems(name: str, body: Mapping[str, Any]) -> list[_Problem]:
    place = ("train", "trainers", name)
    options = body.get("options") or {}
    found = _tried("raymlops.train.trainers", {name: options}, place, where=place[:-1])
    try:
        known = options_of(kind_of("raymlops.train.trainers", name, where=".".join(place)))
    except SpecError:
        return found
    space = body.get("space")
    for option in space if isinstance(space, dict) else ():
        if option not in known:
            found.append(
                _Problem(
                    (*place, "space", str(option)),
                    f"{'.'.join(place)}.space.{option}: the trainer has no such option"
                    f"{suggestion(str(option), known)}, known are {', '.join(known)}",
                )
            )
    return found
