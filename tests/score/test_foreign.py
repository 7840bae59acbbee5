"""A version answers alike as a function in other libraries and other processes."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import raymlops
from raymlops.engine import predictor
from raymlops.errors import DataError, NotFound
from raymlops.values import Version


def _expected(version: Version, rows: pa.Table) -> np.ndarray:
    x = np.column_stack([rows.column("x").to_numpy(), np.asarray(rows.column("colour")) == "red"]).astype(np.float32)
    return predictor(version).predict(x)


def test_answers_are_the_same_in_arrow_pandas_and_polars(version: Version, rows: pa.Table) -> None:
    f, expected = raymlops.udf("m"), _expected(version, rows)
    np.testing.assert_array_equal(f(rows).column("probability").to_numpy(), expected)
    batch = f(rows.combine_chunks().to_batches()[0])
    assert isinstance(batch, pa.RecordBatch)
    np.testing.assert_array_equal(batch.column("probability").to_numpy(), expected)
    frame = rows.to_pandas().iloc[::-1]
    made = f(frame)
    assert made.index.tolist() == frame.index.tolist()
    np.testing.assert_array_equal(made["probability"].to_numpy(), expected[::-1])
    polars = pytest.importorskip("polars", reason="polars is not installed")
    np.testing.assert_array_equal(f(polars.from_arrow(rows))["probability"].to_numpy(), expected)


def test_no_rows_have_no_answers_of_the_right_type(version: Version, rows: pa.Table) -> None:
    f = raymlops.udf("m@1")
    assert f(rows.slice(0, 0)).schema == f.schema
    assert f(rows.slice(0, 0)).num_rows == 0


def test_another_process_gives_the_same_answers(version: Version, rows: pa.Table, tmp_path: Path) -> None:
    f = raymlops.udf("m@champion", keep=["id"])
    f(rows)
    (tmp_path / "f").write_bytes(pickle.dumps(f))  # what Spark and Dask do with a function
    with pa.OSFile(str(tmp_path / "rows"), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
        writer.write_table(rows)
    code = (
        "import pickle, pyarrow as pa, sys\n"
        "f = pickle.load(open(sys.argv[1], 'rb'))\n"
        "print(f(pa.ipc.open_file(sys.argv[2]).read_all()).to_pydict())"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "f"), str(tmp_path / "rows")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == repr({"id": list(range(400)), "probability": _expected(version, rows).tolist()})


def test_rows_that_break_the_contract_and_other_things_are_named(version: Version, rows: pa.Table) -> None:
    f = raymlops.udf("m")
    with pytest.raises(DataError, match=r"row 1, column 'colour': must be one of blue, red, 'mauve' given"):
        f(pa.table({"x": [1.0, 2.0], "colour": ["red", "mauve"]}))
    for missing in (None, np.nan):
        with pytest.raises(DataError, match="row 1, column 'x': must not be missing"):
            f(pd.DataFrame({"x": [1.0, missing], "colour": ["red", "blue"]}))
    with pytest.raises(DataError, match="column 'x': is missing"):
        f(rows.drop_columns(["x"]))
    with pytest.raises(DataError, match=r"builtins.list given; a pandas or Polars DataFrame"):
        f([{"x": 1}])
    with pytest.raises(NotFound, match="is not registered"):
        raymlops.udf("absent")
