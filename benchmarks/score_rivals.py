"""The floors and the rivals of batch scoring, each a whole program. Knows nothing of raymlops.

    python benchmarks/score_rivals.py NAME MODEL ROWS OUT

Each reads the Parquet files of ROWS, answers every row with MODEL, writes `id` and `probability` into OUT with two
cores, and prints as JSON the seconds from a loaded model (Spark: from a session that is up) to the last byte.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FEATURES = [f"f{i}" for i in range(28)]
CORES = 2
# Rows a call of the session: of 256 … 131,072 the quickest for 28-128-64-1 in int8, 2.1x of 131,072.
BATCH = 8_192


def floor(model: str, rows: str, out: str) -> float:
    """One process without a contract, accounts or a manifest: read a file, predict on C-order float32, write."""
    return _loop(rows, out, _booster(model, threads=CORES).inplace_predict)


def network_floor(model: str, rows: str, out: str) -> float:
    """The same loop around one session of ONNX Runtime, which is asked a batch at a time."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = CORES
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def predict(x: np.ndarray) -> np.ndarray:
        batches = (x[first : first + BATCH] for first in range(0, len(x), BATCH))
        return np.concatenate([session.run(["y"], {"x": batch})[0] for batch in batches])

    return _loop(rows, out, predict)


def _loop(rows: str, out: str, predict: Callable[[np.ndarray], np.ndarray]) -> float:
    start = time.perf_counter()
    for index, file in enumerate(_files(rows)):
        table = pq.read_table(file, columns=["id", *FEATURES])
        x = np.empty((table.num_rows, len(FEATURES)), np.float32)
        for j, name in enumerate(FEATURES):
            x[:, j] = table.column(name).to_numpy()
        pq.write_table(pa.table({"id": table.column("id"), "probability": predict(x)}), f"{out}/{index:03}.parquet")
    return time.perf_counter() - start


def polars(model: str, rows: str, out: str) -> float:
    """The floor's loop, read and written by Polars."""
    library = import_module("polars")
    booster = _booster(model, threads=CORES)
    start = time.perf_counter()
    for index, file in enumerate(_files(rows)):
        frame = library.read_parquet(file, columns=["id", *FEATURES])
        answers = booster.inplace_predict(frame.select(FEATURES).to_numpy(order="c"))
        answered = frame.select("id").with_columns(library.Series("probability", answers))
        answered.write_parquet(f"{out}/{index:03}.parquet")
    return time.perf_counter() - start


def dask(model: str, rows: str, out: str) -> float:
    """`read_parquet → map_partitions → to_parquet` on two threads, one core a partition."""
    frames, settings = import_module("dask.dataframe"), import_module("dask").config
    booster = _booster(model, threads=1)
    start = time.perf_counter()

    def answered(part: Any) -> Any:
        x = np.ascontiguousarray(part[FEATURES].to_numpy())
        return part[["id"]].assign(probability=booster.inplace_predict(x) if len(x) else np.empty(0, np.float32))

    with settings.set(scheduler="threads", num_workers=CORES):
        frame = frames.read_parquet(rows, columns=["id", *FEATURES])
        empty = {"id": np.dtype(np.int64), "probability": np.dtype(np.float32)}
        frame.map_partitions(answered, meta=empty).to_parquet(out, write_index=False)
    return time.perf_counter() - start


def spark(model: str, rows: str, out: str) -> float:
    """`mlflow.pyfunc.spark_udf` of a model in MLflow's own folder, as its documentation shows it, on `local[2]`."""
    os.environ |= {"OMP_NUM_THREADS": "1", "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    pyfunc, sql = import_module("mlflow.pyfunc"), import_module("pyspark.sql")
    builder = sql.SparkSession.builder.master(f"local[{CORES}]").config("spark.ui.enabled", "false")
    session = builder.config("spark.driver.memory", "4g").getOrCreate()
    start = time.perf_counter()
    answer = pyfunc.spark_udf(session, model, result_type="float", env_manager="local")
    struct = sql.functions.struct(*FEATURES)
    answered = session.read.parquet(rows).select("id", answer(struct).alias("probability"))
    answered.write.mode("overwrite").parquet(out)
    seconds = time.perf_counter() - start
    session.stop()
    return seconds


def mlflow(model: str, rows: str, out: str) -> float:
    """Write the model into OUT in MLflow's own form, which `spark` takes; not a contestant."""
    start = time.perf_counter()
    import_module("mlflow.xgboost").save_model(_booster(model, threads=1), out, model_format="ubj")
    return time.perf_counter() - start


def _booster(model: str, *, threads: int) -> Any:
    import xgboost

    booster = xgboost.Booster(model_file=model)
    booster.set_param({"nthread": threads})
    return booster


def _files(rows: str) -> list[Path]:
    return sorted(Path(rows).glob("*.parquet"))


PROGRAMS = {
    "floor": floor, "network-floor": network_floor, "polars": polars, "dask": dask, "spark": spark, "mlflow": mlflow
}  # fmt: skip

if __name__ == "__main__":
    print(json.dumps({"seconds": PROGRAMS[sys.argv[1]](*sys.argv[2:])}))
