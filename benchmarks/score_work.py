"""The work of the scoring benchmark: rows in Parquet files, two models of a registry, and a spec for any part of it.

Knows nothing of who does it or of time.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from score_rivals import FEATURES

from raymlops import registry
from raymlops.codec import dumps
from raymlops.contract import infer
from raymlops.engine import compile_artefact, write_choice
from raymlops.protocols import Trainer
from raymlops.train.trainers.pytorch import Pytorch
from raymlops.train.trainers.xgboost import Xgboost
from raymlops.values import Examples, JsonValue

__all__ = ["Part", "Work", "forget", "new_work"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Files to be scored as one run: `total` rows in the folder `rows`, which the spec names."""

    spec: Path
    rows: Path
    files: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A folder with the home of a registry, and ``files`` files of ``rows`` rows each; the floors' models beside."""

    folder: Path
    files: int
    rows: int

    def part(self, files: int | None = None, *, model: str = "trees") -> Part:
        """Return as many of the files as asked for, through hard links; where there are fewer, again and again."""
        files = files or self.files
        rows = self.folder / "parts" / str(files)
        rows.mkdir(parents=True, exist_ok=True)
        for index in range(files):
            link = rows / f"{index:05}.parquet"
            if not link.exists():
                link.hardlink_to(self.folder / "rows" / f"{index % self.files:05}.parquet")
        spec = self.folder / f"{model}-{files}.yaml"
        spec.write_text(f"""
name: {model}
data: {{source: {{parquet: {rows}}}, label: y, key: [id]}}
train: {{trainers: {{xgboost: {{}}}}}}
score: {{source: {{parquet: {rows}}}}}
""")
        return Part(spec=spec, rows=rows, files=files, total=files * self.rows)

    def of_one_row(self) -> "Work":
        """Return the work of one file with one row, for the same models."""
        folder = self.folder / "one"
        _write_rows(folder, files=1, rows=1)
        return Work(folder=folder, files=1, rows=1)

    @property
    def trees(self) -> Path:
        """The trees, in XGBoost's own file."""
        return self.folder / "model.ubj"

    @property
    def network(self) -> Path:
        """The network in int8, as ONNX: the very file that raymlops answers with."""
        return self.folder / "model.onnx"

    def out(self, name: str) -> Path:
        """Return an empty folder for the answers of a rival."""
        folder = self.folder / "out" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder


def new_work(folder: Path, *, files: int, rows: int) -> Work:
    """Write the rows and register the models; from now on the home is in `folder`."""
    os.environ["RAYMLOPS_HOME"] = str(folder / "home")
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    _write_rows(folder, files=files, rows=rows)
    sample = _table(np.random.default_rng(1), 20_000, 0)
    work = Work(folder=folder, files=files, rows=rows)
    stored = _register("trees", Xgboost(rounds=100, max_depth=6, patience=0), sample)
    shutil.copy(stored / "model.ubj", work.trees)
    stored = _register("network", Pytorch(epochs=1, patience=0), sample, int8=True)
    shutil.copy(stored / "model.onnx", work.network)
    return work


def forget() -> None:
    """Remove what raymlops has scored, so that the next run is the first."""
    for name in ("runs", "scores"):
        shutil.rmtree(Path(os.environ["RAYMLOPS_HOME"]) / name, ignore_errors=True)


def _write_rows(folder: Path, *, files: int, rows: int) -> None:
    random = np.random.default_rng(0)
    (folder / "rows").mkdir(parents=True)
    for index in range(files):
        pq.write_table(_table(random, rows, index * rows), folder / "rows" / f"{index:05}.parquet")


def _table(random: np.random.Generator, rows: int, start: int) -> pa.Table:
    x = random.normal(size=(rows, len(FEATURES))).astype(np.float32)
    y = (x[:, 0] * x[:, 1] + random.normal(size=rows) > 0).astype(np.int64)
    columns = {name: np.ascontiguousarray(x[:, i]) for i, name in enumerate(FEATURES)}
    return pa.table({"id": np.arange(start, start + rows), **columns, "y": y})


def _register(name: str, trainer: Trainer, sample: pa.Table, *, int8: bool = False) -> Path:
    """Return the folder of the files that answer: the version's own, or those of its int8 engine."""
    contract = infer(sample, features=FEATURES, label="y", key=("id",))
    x = np.column_stack([sample.column(feature).to_numpy() for feature in FEATURES])
    rows = Examples(x=x, y=sample.column("y").to_numpy().astype(np.float64))
    none = [0] * len(FEATURES)
    fitted = trainer.fit(rows, None, categories=none, task="binary", classes=2, seed=0, threads=2)
    model = {"format": fitted.format, "task": "binary", "classes": 2, "features": len(FEATURES), "categories": none}
    digest, stored = registry.store_folder({
        **fitted.files, "model.json": dumps({**model, "params": fitted.params}),
        "contract.json": dumps(contract.to_json()),
    })  # fmt: skip
    version = registry.promote(str(registry.register(name, digest=digest, path=stored, run_id=None, tags={})))
    if not int8:
        return stored
    engine: JsonValue = {"onnxruntime": {"precision": "int8"}}
    write_choice(version, engine, "the benchmark asks for it")
    return compile_artefact(version, engine, sample=x)
