"""A version as a function of a table, for engines that are not ours: pandas, Polars, Arrow, Dask and Spark.

    f = raymlops.udf("churn@champion")
    f(frame)                                                              # pandas, Polars or pyarrow
    dask_frame.map_partitions(f, meta=f(dask_frame.head(0)))
    spark_frame.mapInPandas(lambda parts: map(f, parts), schema=…)

Knows nothing of pieces, sinks or accounts.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from raymlops import registry
from raymlops.contract import Contract, answer_schema, answers, encode
from raymlops.data import read_contract
from raymlops.engine import chosen, predictor
from raymlops.errors import DataError
from raymlops.protocols import Predictor
from raymlops.values import JsonValue, Version

__all__ = ["Udf", "udf"]

_SHOWN = 10


def udf(ref: str, *, threads: int = 1) -> "Udf":
    """Return the function of a version, NAME, NAME@3 or NAME@alias: an alias is resolved now, once, for every process.

    The version's folder must be readable where the function runs. Raise NotFound for what is not registered.
    """
    version = registry.resolve(ref)
    return Udf(version=version, engine=chosen(version), threads=threads)


@dataclass(frozen=True, kw_only=True)
class Udf:
    """Answers of one version and engine; it can be sent to other processes, where the model is loaded once."""

    version: Version
    engine: tuple[str, dict[str, JsonValue]]
    threads: int = 1
    _loaded: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def schema(self) -> pa.Schema:
        """The names and types of the answers."""
        return pa.schema(answer_schema(self._contract.label))

    def __call__(self, rows: Any) -> Any:
        """Return the answers to the rows of a data frame or table, one a row, in the library that the rows came in.

        Columns beside the features are not looked at; a pandas index is kept. Raise DataError when a column is
        missing or a row breaks the contract, with the first ten.
        """
        table = _arrow(rows)
        contract = self._contract
        encoded = encode(contract, {name: table.column(name) for name in contract.names if name in table.column_names})
        if encoded.violations:
            raise DataError(
                *(f"row {v.row}, column {v.column!r}: {v.rule}, {v.value} given" for v in encoded.violations[:_SHOWN])
            )
        named = answers(contract.label, self._predict(encoded.x))
        made = pa.table({name: pa.array(named[name], kind) for name, kind in answer_schema(contract.label)})
        return _as_given(made, rows)

    def __getstate__(self) -> dict[str, Any]:
        return {"version": self.version, "engine": self.engine, "threads": self.threads, "_loaded": {}}

    @property
    def _contract(self) -> Contract:
        if "contract" not in self._loaded:
            self._loaded["contract"] = read_contract(self.version.path)
        contract: Contract = self._loaded["contract"]
        return contract

    def _predict(self, x: np.ndarray) -> np.ndarray:
        if "predictor" not in self._loaded:
            self._loaded["predictor"] = predictor(self.version, engine=self.engine, threads=self.threads)
        loaded: Predictor = self._loaded["predictor"]
        if len(x):
            return loaded.predict(x)
        # An engine may refuse no rows; one row tells the shape of the answers.
        return loaded.predict(np.full((1, x.shape[1]), np.nan, dtype=np.float32))[:0]


def _arrow(rows: Any) -> pa.Table:
    if isinstance(rows, pa.RecordBatch):
        return pa.Table.from_batches([rows])
    if isinstance(rows, pa.Table):
        return rows
    if hasattr(rows, "to_arrow"):  # Polars
        return rows.to_arrow()
    if hasattr(rows, "iloc"):  # pandas
        return pa.Table.from_pandas(rows, preserve_index=False)
    raise DataError(f"rows: {type(rows).__name__} given; a pandas or Polars DataFrame or a pyarrow Table is needed")


def _as_given(made: pa.Table, rows: Any) -> Any:
    if isinstance(rows, pa.RecordBatch):
        return made.combine_chunks().to_batches()[0] if made.num_rows else pa.RecordBatch.from_pylist([], made.schema)
    if isinstance(rows, pa.Table):
        return made
    if hasattr(rows, "to_arrow"):
        from importlib import import_module

        return import_module("polars").from_arrow(made)
    return made.to_pandas().set_axis(rows.index)
