"""What a version's folder says of its model: `model.json`. Knows nothing of engines or of who made the folder."""

import json
from dataclasses import dataclass
from pathlib import Path

from raymlops.errors import EngineError, NotFound
from raymlops.plugins import build
from raymlops.protocols import ModelFormat
from raymlops.values import JsonValue, Task

__all__ = ["Model", "load_format", "read_model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """``categories[j]`` is the number of categories of feature j, 0 if it is a number; ``classes`` 0 for regression."""

    format: str
    task: Task
    classes: int
    features: int
    categories: tuple[int, ...]
    params: dict[str, JsonValue]

    @property
    def answer_shape(self) -> tuple[int, ...]:
        """The shape of one row's answer: () for a single value, (classes,) for a distribution."""
        return (self.classes,) if self.task == "multiclass" else ()


def read_model(folder: Path) -> Model:
    """Read `model.json`; raise NotFound without it, EngineError if it lacks a word."""
    try:
        value = json.loads((folder / "model.json").read_bytes())
    except FileNotFoundError as error:
        raise NotFound(f"{folder}: holds no model.json; give the folder of a model version") from error
    missing = [word for word in ("format", "task", "features", "categories") if word not in value]
    if missing:
        raise EngineError(f"{folder}/model.json: {', '.join(missing)} missing; train the version again")
    return Model(
        format=value["format"],
        task=value["task"],
        classes=int(value.get("classes") or 0),
        features=int(value["features"]),
        categories=tuple(int(count) for count in value["categories"]),
        params=value.get("params") or {},
    )


def load_format(folder: Path) -> ModelFormat:
    """Return the kind of `raymlops.engine.formats` that reads the model of a version's folder."""
    name = read_model(folder).format
    made: ModelFormat = build("raymlops.engine.formats", name, where=f"{folder}/model.json: format")
    return made
