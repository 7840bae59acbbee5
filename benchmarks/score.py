"""Batch scoring against a plain loop over the same files, in one run.

    python benchmarks/score.py [--quick] [--json]

The rival reads each Parquet file with pyarrow, calls `inplace_predict` on C-order float32 and writes the answers, on
one core, without a contract, accounts or a manifest. Ours is the score stage on a cluster that is up, from plan to
published manifest. Rounds are interleaved; the numbers are medians.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from line import Line, arguments, print_lines

from raymlops import cluster, registry, score
from raymlops.codec import dumps
from raymlops.contract import infer
from raymlops.spec import Spec, parse

FEATURES = 28


def main() -> int:
    """Measure and print; exit 1 when a bar is missed."""
    given = arguments(__doc__, quick="200 thousand rows in 4 files and one round; not 4 million in 16, three rounds")
    files, rows, rounds = (4, 50_000, 1) if given.quick else (16, 250_000, 3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["RAYMLOPS_HOME"] = str(folder / "home")
        booster, spec = _prepared(folder, files, rows)
        running = cluster.start(cpus=2, tied=True)
        try:
            ours, floor = _rounds(running, spec, booster, folder, rounds)
        finally:
            cluster.stop(running)
    total = files * rows
    line = Line(
        what=f"score {total:,} rows × {FEATURES}, 100 trees, cluster up; rival: a plain pyarrow loop on one core",
        unit="rows/s", ours=total / median(ours), rival=total / median(floor), ratio=median(floor) / median(ours),
        bar=0.05 if given.quick else 0.3,
    )  # fmt: skip
    return print_lines([line], as_json=given.json)


def _prepared(folder: Path, files: int, rows: int) -> tuple[Any, Spec]:
    import xgboost

    random = np.random.default_rng(0)
    (folder / "rows").mkdir()
    for index in range(files):
        pq.write_table(_table(random, rows, index * rows), folder / "rows" / f"{index:03}.parquet")
    spec = parse(f"""
name: bench
data: {{source: {{parquet: {folder}/rows}}, label: y, key: [id]}}
train: {{trainers: {{xgboost: {{}}}}}}
score: {{source: {{parquet: {folder}/rows}}, workers: 2}}
""")
    sample = _table(random, 20_000, 0)
    features = tuple(f"f{i}" for i in range(FEATURES))
    contract = infer(sample, features=features, label="y", key=("id",))
    x = np.column_stack([sample.column(name).to_numpy() for name in features])
    settings = {"objective": "binary:logistic", "max_depth": 6, "seed": 0}
    booster = xgboost.train(settings, xgboost.DMatrix(x, sample.column("y").to_numpy()), 100)
    model = {"format": "xgboost", "task": "binary", "classes": 2, "features": FEATURES,
             "categories": [0] * FEATURES, "params": {}}  # fmt: skip
    digest, path = registry.store_folder({
        "model.ubj": bytes(booster.save_raw("ubj")), "model.json": dumps(model),
        "contract.json": dumps(contract.to_json()),
    })  # fmt: skip
    registry.promote(str(registry.register("bench", digest=digest, path=path, run_id=None, tags={})))
    booster.set_param({"nthread": 1})
    return booster, spec


def _table(random: np.random.Generator, rows: int, start: int) -> pa.Table:
    x = random.normal(size=(rows, FEATURES)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] + random.normal(size=rows) > 0).astype(np.int64)
    return pa.table({"id": np.arange(start, start + rows), **{f"f{i}": x[:, i] for i in range(FEATURES)}, "y": y})


def _rounds(
    running: cluster.LocalCluster,
    spec: Spec,
    booster: Any,
    folder: Path,
    rounds: int,
) -> tuple[list[float], list[float]]:
    from raymlops.cluster.on_ray import connect

    ours, floor = [], []
    with connect(running):
        for _ in range(rounds):
            start = time.perf_counter()
            made = score.run(spec)
            ours.append(time.perf_counter() - start)
            _forget(Path(str(made["folder"])))
            start = time.perf_counter()
            _plain_loop(booster, folder)
            floor.append(time.perf_counter() - start)
    return ours, floor


def _plain_loop(booster: Any, folder: Path) -> None:
    (folder / "plain").mkdir(exist_ok=True)
    for file in sorted((folder / "rows").iterdir()):
        table = pq.read_table(file)
        x = np.ascontiguousarray(np.column_stack([table.column(f"f{i}").to_numpy() for i in range(FEATURES)]))
        answers = pa.table({"id": table.column("id"), "probability": booster.inplace_predict(x)})
        pq.write_table(answers, folder / "plain" / file.name)


def _forget(run: Path) -> None:
    for path in sorted(run.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


if __name__ == "__main__":
    sys.exit(main())
