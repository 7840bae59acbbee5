"""Version folders of small models: trees and networks of each task, with categories and missing values."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from raymlops.codec import digest_folder, dumps
from raymlops.engine import load_format
from raymlops.engine.formats.pytorch import build_mlp
from raymlops.values import Float32, Float64, Task, Version

CATEGORIES = (0, 4, 0, 0, 7)
Write = Callable[..., Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiny:
    """A version's folder, and rows to ask it about."""

    name: str
    folder: Path
    sample: Float32

    @property
    def version(self) -> Version:
        return Version(name="tiny", number=1, digest=digest_folder(self.folder), path=self.folder)


def rows(count: int, seed: int = 0) -> Float32:
    random = np.random.default_rng(seed)
    x = random.normal(2, 3, (count, len(CATEGORIES))).astype(np.float32)
    for column, categories in enumerate(CATEGORIES):
        if categories:
            x[:, column] = random.integers(0, categories, count)
    x[random.random(x.shape) < 0.15] = np.nan
    return x


def labels(x: Float32, task: Task, classes: int) -> Float64:
    signal = np.nan_to_num(x[:, 0]) + 2.0 * np.nan_to_num(x[:, 1]) - np.nan_to_num(x[:, 2])
    if task == "regression":
        return np.asarray(100 + 7 * signal, dtype=np.float64)
    edges = [4.0] if classes == 2 else list(np.quantile(signal, np.arange(1, classes) / classes))
    return np.asarray(np.digitize(signal, edges), dtype=np.float64)


def write_trees(folder: Path, task: Task, *, classes: int = 0, rounds: int = 12, **params: object) -> Path:
    import xgboost

    objective = {"binary": "binary:logistic", "multiclass": "multi:softprob", "regression": "reg:squarederror"}[task]
    options = {"objective": objective, "max_depth": 4, "nthread": 1, "seed": 0, **params}
    if task == "multiclass":
        options["num_class"] = classes
    x = rows(600)
    booster = xgboost.train(options, xgboost.DMatrix(x, labels(x, task, classes)), rounds)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.ubj").write_bytes(booster.save_raw("ubj"))
    _describe(folder, "xgboost", task, classes, {})
    return folder


def write_network(folder: Path, task: Task, *, classes: int = 0, hidden: Sequence[int] = (32, 16)) -> Path:
    import torch
    from safetensors.torch import save

    torch.manual_seed(0)
    module = build_mlp(len(CATEGORIES), CATEGORIES, hidden, classes if task == "multiclass" else 1, task)
    x = rows(600)
    numbers = np.array(CATEGORIES) == 0
    module.mean.copy_(torch.from_numpy(np.where(numbers, np.nanmean(x, axis=0), 0)))
    module.std.copy_(torch.from_numpy(np.where(numbers, np.nanstd(x, axis=0), 1)))
    if task == "regression":
        module.y_mean.fill_(100.0)
        module.y_std.fill_(30.0)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(save(module.state_dict()))
    _describe(folder, "pytorch", task, classes, {"hidden": list(hidden), "dropout": 0.1})
    return folder


def _describe(folder: Path, form: str, task: Task, classes: int, params: dict[str, object]) -> None:
    value = {
        "format": form,
        "trainer": form,
        "task": task,
        "classes": classes,
        "features": len(CATEGORIES),
        "categories": list(CATEGORIES),
        "params": params,
    }
    (folder / "model.json").write_bytes(dumps(value))


TREES: dict[str, tuple[Task, int]] = {"binary": ("binary", 2), "three classes": ("multiclass", 3)}
TREES |= {"two classes": ("multiclass", 2), "regression": ("regression", 0)}


@pytest.fixture(scope="session", params=list(TREES))
def trees(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    task, classes = TREES[request.param]
    folder = write_trees(tmp_path_factory.mktemp("trees") / "version", task, classes=classes)
    return Tiny(name=request.param, folder=folder, sample=rows(200, seed=1))


@pytest.fixture(scope="session", params=["binary", "three classes", "regression"])
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    task, classes = TREES[request.param]
    folder = write_network(tmp_path_factory.mktemp("network") / "version", task, classes=classes)
    return Tiny(name=request.param, folder=folder, sample=rows(200, seed=1))


@pytest.fixture(scope="session")
def graph(network: Tiny) -> bytes:
    return load_format(network.folder).to_onnx(network.folder)


@pytest.fixture(scope="session")
def new_trees() -> Write:
    return write_trees


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAYMLOPS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"
