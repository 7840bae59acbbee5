"""Tiny models as version folders: real trees, real contracts, made in a tenth of a second."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import xgboost

from raymlops.codec import digest_folder, dumps, write_aside
from raymlops.contract import Contract, encode, encode_label, infer
from raymlops.serve.models import Models, Wanted, next_models
from raymlops.spec import FeatureSpec

FEATURES = ("colour", "weight", "count", "flag")
_OBJECTIVE = {"binary": "binary:logistic", "multiclass": "multi:softprob", "regression": "reg:squarederror"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A version's folder, as the train stage leaves it, and the rows it was made from."""

    wanted: Wanted
    contract: Contract
    rows: pa.Table


Make = Callable[..., Made]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Make a version's folder below this test's home."""
    monkeypatch.setenv("RAYMLOPS_HOME", str(tmp_path))
    return _maker(tmp_path)


@pytest.fixture(scope="session")
def maker() -> Callable[[Path], Make]:
    """Return what makes versions' folders below a home; `RAYMLOPS_HOME` is left as it is."""
    return _maker


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """A binary (`small`), a multiclass (`sorted`) and a regression model (`priced`), loaded once a module."""
    home = tmp_path_factory.mktemp("home")
    make = _maker(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYMLOPS_HOME", str(home))
        labels = {"small": "late", "sorted": "grade", "priced": "delay"}
        return next_models(Models(), [make(name, label=label).wanted for name, label in labels.items()])


def _maker(home: Path) -> Make:
    def made(name: str = "small", *, number: int = 1, label: str = "late", seed: int = 0, max_rows: int = 100) -> Made:
        rows = _rows(seed)
        overrides = {"weight": FeatureSpec(min=-1000.0), "count": FeatureSpec(nullable=False)}
        contract = infer(rows, features=FEATURES, label=label, overrides=overrides)
        folder = home / "models" / f"{name}-{number}"
        _write(folder, contract, rows, label=label, seed=seed)
        wanted = Wanted(
            name=name, number=number, digest=digest_folder(folder), path=str(folder), max_rows=max_rows, choice="c"
        )
        return Made(wanted=wanted, contract=contract, rows=rows)

    return made


def _rows(seed: int) -> pa.Table:
    random = np.random.default_rng(seed)
    n = 200
    weight = random.normal(size=n)
    count = random.integers(0, 50, n)
    colour = [["blue", "green", None, "3"][i] for i in random.integers(0, 4, n)]
    signal = weight + count / 25 + np.array([c == "blue" for c in colour])
    return pa.table(
        {
            "colour": pa.array(colour, pa.string()),
            "weight": pa.array([None if i % 7 == 0 else w for i, w in enumerate(weight.tolist())], pa.float64()),
            "count": pa.array(count),
            "flag": pa.array((count % 2 == 0).tolist()),
            "late": pa.array((signal > 1).astype(np.int64)),
            "grade": pa.array([["low", "middle", "high"][int(np.digitize(s, [0.5, 1.5]))] for s in signal]),
            "delay": pa.array(signal),
        }
    )


def _write(folder: Path, contract: Contract, rows: pa.Table, *, label: str, seed: int) -> None:
    x = encode(contract, {name: rows.column(name) for name in FEATURES}).x
    y = encode_label(contract.label, rows.column(label))
    task, classes = contract.label.task, len(contract.label.classes)
    params: dict[str, object] = {"objective": _OBJECTIVE[task], "max_depth": 3, "seed": seed, "nthread": 1}
    if task == "multiclass":
        params["num_class"] = classes
    booster = xgboost.train(params, xgboost.DMatrix(x, y), num_boost_round=5)
    model: dict[str, object] = {
        "format": "xgboost",
        "trainer": "xgboost",
        "task": task,
        "classes": classes,
        "features": len(FEATURES),
        "categories": list(contract.category_counts),
        "params": {},
    }
    write_aside(folder / "model.json", dumps(model))
    write_aside(folder / "contract.json", dumps(contract.to_json()))
    write_aside(folder / "model.ubj", bytes(booster.save_raw("ubj")))
