"""A file of rows, and a network and trees that were fitted to them."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymlops import registry
from raymlops.codec import dumps
from raymlops.data import examples, infer_contract
from raymlops.protocols import Trainer
from raymlops.spec import Spec
from raymlops.train import metric_for
from raymlops.train.trainers.pytorch import Pytorch
from raymlops.train.trainers.xgboost import Xgboost
from raymlops.values import Version


def table() -> pa.Table:
    random = np.random.default_rng(0)
    rows = 1500
    distance, colour = random.gamma(2, 300, rows), random.integers(0, 4, rows)
    wait = np.where(random.random(rows) < 0.1, np.nan, random.normal(20, 5, rows))
    late = 0.004 * distance + np.nan_to_num(wait) * 0.1 + 2.0 * (colour == 2) + random.normal(0, 1, rows) > 5
    columns = {"id": np.arange(rows), "distance": distance, "wait": wait, "late": late.astype(np.int64)}
    return pa.table({**columns, "colour": pa.array([f"c{i}" for i in colour])})


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("optimize")
    pq.write_table(table(), folder / "rows.parquet")
    return folder


@pytest.fixture
def home(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAYMLOPS_HOME", str(root / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return root / "home"


def spec_of(root: Path, **optimize: Any) -> Spec:
    return Spec.model_validate(
        {
            "name": "late",
            "data": {"source": {"parquet": str(root / "rows.parquet")}, "label": "late", "key": ["id"]},
            "train": {"trainers": {"xgboost": {}}},
            "optimize": {"budget": {"error": 0.05, "p99_ms": 500}, **optimize},
        }
    )


@pytest.fixture
def versions(root: Path, home: Path) -> dict[str, Version]:
    spec = spec_of(root)
    trainers: dict[str, Trainer] = {
        "pytorch": Pytorch(hidden=(16,), epochs=5, batch_size=64),
        "xgboost": Xgboost(rounds=20, max_depth=3),
    }
    made = {name: fitted(spec, trainer) for name, trainer in trainers.items()}
    registry.tag_finalists("late", made)
    registry.promote(f"late@{made['xgboost'].number}")
    return made


def fitted(spec: Spec, trainer: Trainer) -> Version:
    """Register what the trainer makes of the window `train`."""
    contract = infer_contract(spec, on="train")
    task, classes = contract.label.task, len(contract.label.classes)
    model = trainer.fit(
        examples(spec, on="train", contract=contract),
        None,
        categories=contract.category_counts,
        task=task,
        classes=classes,
        seed=0,
        threads=1,
    )
    described = {
        "format": model.format,
        "task": task,
        "classes": classes,
        "features": len(contract.features),
        "categories": list(contract.category_counts),
        "params": model.params,
    }
    files = {
        **model.files,
        "model.json": dumps(described),
        "contract.json": dumps(contract.to_json()),
        "profile.json": dumps({}),
        "evaluation.json": dumps({"metric": metric_for(task, None)}),
    }
    digest, path = registry.store_folder(files)
    return registry.register(spec.name, digest=digest, path=path, run_id=None, tags={})
