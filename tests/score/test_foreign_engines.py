"""Under pandas, Dask and Spark a version answers as `raymlops score` does, whatever they make of missing values."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import raymlops
from raymlops import registry
from raymlops.codec import dumps
from raymlops.contract import Contract, encode, infer
from raymlops.errors import DataError
from raymlops.score import Udf
from raymlops.score.piece import Scorer
from raymlops.score.plan import make_plan
from raymlops.spec import FeatureSpec, parse
from raymlops.train.trainers.xgboost import Xgboost
from raymlops.values import Examples

FEATURES = ["x", "count", "flag", "colour", "code"]
DDL = "id long, probability float"


def _rows() -> pa.Table:
    """Rows of every type of feature, each with nulls; the first hundred have none, the last hundred nothing else."""
    random = np.random.default_rng(0)
    x, count, code = random.normal(size=600), random.integers(0, 9, 600), random.choice([3, 7, 11], 600)
    absent = {name: (random.random(600) < 0.3) & (np.arange(600) >= 100) | (np.arange(600) >= 500) for name in FEATURES}

    def column(name: str, values: np.ndarray, kind: pa.DataType) -> pa.Array:
        return pa.array(values.tolist(), kind, mask=absent[name])

    return pa.table({
        "id": np.arange(600), "x": column("x", x, pa.float64()), "count": column("count", count, pa.int64()),
        "flag": column("flag", random.random(600) < 0.5, pa.bool_()),
        "colour": column("colour", random.choice(["blue", "red"], 600), pa.string()),
        "code": column("code", code, pa.int32()), "y": (x + count / 3 + code / 4 > 2).astype(int),
        "note": [f"n{i}" for i in range(600)],
    })  # fmt: skip


@pytest.fixture
def rows(home: Path) -> pa.Table:
    """Rows, and a version `n` that was trained on them."""
    made = _rows()
    code = FeatureSpec(type="category")
    contract = infer(made, features=FEATURES, label="y", key=["id"], overrides={"code": code})
    encoded = encode(contract, {name: made.column(name) for name in FEATURES})
    examples = Examples(x=encoded.x, y=made.column("y").to_numpy().astype(np.float64))
    counts = contract.category_counts
    fitted = Xgboost(rounds=20, max_depth=4, min_child_weight=0.0).fit(
        examples, None, categories=counts, task="binary", classes=2, seed=0, threads=1
    )
    _register(contract, {**fitted.files}, {"format": fitted.format, "categories": list(counts)})
    return made


def _register(contract: Contract, files: dict[str, bytes], model: dict[str, Any]) -> None:
    described = {**model, "task": "binary", "classes": 2, "features": len(contract.names), "params": {}}
    digest, path = registry.store_folder(
        {**files, "model.json": dumps(described), "contract.json": dumps(contract.to_json())}
    )
    registry.promote(str(registry.register("n", digest=digest, path=path, run_id=None, tags={})))


@pytest.fixture
def files(rows: pa.Table, tmp_path: Path) -> str:
    """The rows in six files, one without any null, one without any value."""
    (tmp_path / "rows").mkdir()
    for index in range(6):
        pq.write_table(rows.slice(index * 100, 100), tmp_path / "rows" / f"{index}.parquet")
    return str(tmp_path / "rows")


@pytest.fixture
def expected(files: str, home: Path) -> dict[int, float]:
    """What `raymlops score` answers, by id."""
    plan, pieces = make_plan(
        parse(f"""
name: n
data: {{source: {{parquet: {files}}}, label: y, key: [id]}}
train: {{trainers: {{xgboost: {{}}}}}}
score: {{source: {{parquet: {files}}}}}
""")
    )
    counts = [Scorer(plan).score(index, piece) for index, piece in enumerate(pieces)]
    assert [(count.scored, count.dead) for count in counts] == [(100, 0)] * 6
    parts = [pq.read_table(path, partitioning=None) for path in (home / "scores").rglob("*.part")]
    return _by_id(pa.concat_tables(parts).to_pandas())


def _by_id(made: Any) -> dict[int, float]:
    assert made["probability"].dtype == np.float32
    return dict(zip(made["id"].tolist(), made["probability"].tolist(), strict=True))


@pytest.fixture
def f(rows: pa.Table) -> Udf:
    return raymlops.udf("n", keep=["id"])


PANDAS: dict[str, Callable[[pa.Table], pd.DataFrame]] = {
    "floats and objects": lambda rows: rows.to_pandas(),
    "objects alone": lambda rows: rows.to_pandas().astype(object),
    "None in objects": lambda rows: pd.DataFrame(rows.to_pydict(), dtype=object),
    "nullable types": lambda rows: rows.to_pandas().convert_dtypes(),
    "Arrow types": lambda rows: rows.to_pandas(types_mapper=pd.ArrowDtype),
    "categoricals": lambda rows: rows.to_pandas().astype({"colour": "category", "code": "category"}),
}  # fmt: skip


@pytest.mark.parametrize("kind", PANDAS)
def test_pandas_gets_the_answers_of_a_batch_run(kind: str, f: Udf, rows: pa.Table, expected: dict[int, float]) -> None:
    frame = PANDAS[kind](rows)
    made = f(frame)
    assert list(made.columns) == ["id", "probability"]
    assert _by_id(made) == expected
    parts = [f(frame.iloc[first : first + 100]) for first in range(0, 600, 100)]
    assert _by_id(pd.concat(parts)) == expected, "a part answers as the whole"


def test_arrow_and_polars_get_the_answers_of_a_batch_run(f: Udf, rows: pa.Table, expected: dict[int, float]) -> None:
    assert _by_id(f(rows).to_pandas()) == expected
    assert _by_id(f(polars.from_arrow(rows)).to_pandas()) == expected
    batches = [f(batch) for batch in rows.to_batches(max_chunksize=100)]
    assert _by_id(pa.Table.from_batches(batches).to_pandas()) == expected


def test_a_pandas_index_that_repeats_itself_is_kept(f: Udf, rows: pa.Table, expected: dict[int, float]) -> None:
    frame = rows.to_pandas().set_index(pd.Index([7] * 300 + [8] * 300))
    made = f(frame)
    assert made.index.tolist() == frame.index.tolist()
    assert _by_id(made) == expected


def test_columns_that_no_library_could_answer_are_named(f: Udf, rows: pa.Table) -> None:
    frame = rows.to_pandas()
    with pytest.raises(DataError, match="column 'colour': its values are not of one type"):
        f(frame.assign(colour=pd.Series([1, "red"] * 300, dtype=object)))
    with pytest.raises(DataError, match=r"column 'x': type string given, number needed"):
        f(frame.assign(x=pd.Series(["1.5"] * 600, dtype=object)))
    with pytest.raises(DataError, match="column 'x': 2 columns have this name"):
        f(pd.concat([frame, frame[["x"]]], axis=1))
    with pytest.raises(DataError, match="keep: column 'id' is missing"):
        f(frame.drop(columns="id"))
    with pytest.raises(DataError, match="keep: column 'probability' has the name of an answer"):
        raymlops.udf("n", keep=["probability"])


def test_other_columns_may_hold_anything(f: Udf, rows: pa.Table, expected: dict[int, float]) -> None:
    odd = pd.Series([object()] * 600, dtype=object)
    assert _by_id(f(rows.to_pandas().assign(note=odd))) == expected
    decimals = rows.to_pandas().assign(count=[None if v is None else Decimal(v) for v in rows["count"].to_pylist()])
    assert _by_id(f(decimals)) == expected


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_dask_gets_the_answers_of_a_batch_run(scheduler: str, f: Udf, files: str, expected: dict[int, float]) -> None:
    dask = pytest.importorskip("dask.dataframe", reason="dask is not installed")
    frame = dask.read_parquet(files)
    made = frame.map_partitions(f, meta=f(frame.head(0)))
    assert frame.npartitions > 1
    assert _by_id(made.compute(scheduler=scheduler, num_workers=2)) == expected


@pytest.fixture
def spark(files: str) -> Iterator[Any]:
    """Two workers of Spark, which find this raymlops."""
    if importlib.util.find_spec("pyspark") is None or shutil.which("java") is None:
        pytest.skip("pyspark or java is not installed")
    from importlib import import_module

    here = str(Path(raymlops.__file__).parents[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]))
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        session = import_module("pyspark.sql").SparkSession.builder.master("local[2]").config(
            "spark.ui.enabled", "false").getOrCreate()  # fmt: skip
        try:
            yield session.read.parquet(files)
        finally:
            session.stop()


def test_spark_gets_the_answers_of_a_batch_run(f: Udf, spark: Any, expected: dict[int, float]) -> None:
    assert _by_id(spark.mapInArrow(lambda parts: map(f, parts), DDL).toPandas()) == expected
    assert _by_id(spark.mapInPandas(lambda parts: map(f, parts), DDL).toPandas()) == expected


def test_spark_s_own_functions_get_the_answers_of_a_batch_run(f: Udf, spark: Any, expected: dict[int, float]) -> None:
    from importlib import import_module

    functions = import_module("pyspark.sql.functions")

    @functions.pandas_udf(DDL)  # type: ignore[untyped-decorator]
    def answer(rows: pd.DataFrame) -> pd.DataFrame:
        made: pd.DataFrame = f(rows)
        return made

    answered = spark.select(answer(functions.struct("id", *FEATURES)).alias("answer")).select("answer.*")
    assert _by_id(answered.toPandas()) == expected
