"""A version as a function of a table, for engines that are not ours: pandas, Polars, Arrow, Dask and Spark.

    f = raymlops.udf("churn@champion", keep=["id"])
    f(frame)                                                                    # pandas, Polars or pyarrow
    dask_frame.map_partitions(f, meta=f(dask_frame.head(0)))
    spark_frame.mapInArrow(lambda parts: map(f, parts), "id long, probability float")
    spark_frame.mapInPandas(lambda parts: map(f, parts), "id long, probability float")

The answers are those of `raymlops score`, bit for bit. Whatever a library writes for a missing value (null, None, NaN,
NA) is missing, whole numbers that became floats for its sake are whole numbers, and a pandas Categorical is its values.
Workers need the version's folder, numpy, pyarrow, pydantic, orjson, PyYAML and the libraries of the model's engine in
the driver's versions; neither Ray nor MLflow.

Knows nothing of pieces, sinks or accounts.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, TypeAlias

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


def udf(ref: str, *, keep: Sequence[str] = (), threads: int = 1) -> "Udf":
    """Return the function of a version, NAME, NAME@3 or NAME@alias: an alias is resolved now, once, for every process.

    `keep` names columns that stand before the answers, to tell whose they are. The version's folder must be readable
    where the function runs. Raise NotFound for what is not registered, DataError for a kept column with the name of
    an answer.
    """
    version = registry.resolve(ref)
    made = Udf(version=version, engine=chosen(version), keep=tuple(keep), threads=threads)
    taken = [name for name in made.keep if name in made.schema.names]
    if taken:
        raise DataError(*(f"keep: column {name!r} has the name of an answer of {version}; rename it" for name in taken))
    return made


@dataclass(frozen=True, kw_only=True)
class Udf:
    """Answers of one version and engine; it can be sent to other processes, where the model is loaded once."""

    version: Version
    engine: tuple[str, dict[str, JsonValue]]
    keep: tuple[str, ...] = ()
    threads: int = 1
    _loaded: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def schema(self) -> pa.Schema:
        """The names and types of the answers."""
        return pa.schema(answer_schema(self._contract.label))

    def __call__(self, rows: Any) -> Any:
        """Return the kept columns and the answers to the rows of a data frame or table, in the library they came in.

        Columns beside the features and the kept are not looked at; a pandas index is kept. Raise DataError when a
        column is missing or of a wrong type or a row breaks the contract, with the first ten.
        """
        columns, beside = _library(rows)
        contract = self._contract
        given = list(rows.schema.names if isinstance(rows, pa.Table | pa.RecordBatch) else rows.columns)
        _check_names(given, features=contract.names, keep=self.keep)
        encoded = encode(contract, columns(rows, [name for name in contract.names if name in given]))
        if encoded.violations:
            raise DataError(
                *(f"row {v.row}, column {v.column!r}: {v.rule}, {v.value} given" for v in encoded.violations[:_SHOWN])
            )
        named = answers(contract.label, self._predict(encoded.x))
        answered = {name: pa.array(named[name], kind) for name, kind in answer_schema(contract.label)}
        return beside(rows, list(self.keep), answered)

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: getattr(self, name) for name in ("version", "engine", "keep", "threads")}
        return {**kept, "_loaded": {}}

    @property
    def _contract(self) -> Contract:
        if "contract" not in self._loaded:
            self._loaded["contract"] = read_contract(self.version.path)
        contract: Contract = self._loaded["contract"]
        return contract

    def _predict(self, x: np.ndarray) -> np.ndarray:
        if "predictor" not in self._loaded:
            registry.check_loaded(self.version)
            self._loaded["predictor"] = predictor(self.version, engine=self.engine, threads=self.threads)
        loaded: Predictor = self._loaded["predictor"]
        if len(x):
            return loaded.predict(x)
        # An engine may refuse no rows; one row tells the shape of the answers.
        return loaded.predict(np.full((1, x.shape[1]), np.nan, dtype=np.float32))[:0]


_Columns: TypeAlias = Callable[[Any, list[str]], Mapping[str, Any]]  # the named columns of rows, in Arrow
_Beside: TypeAlias = Callable[[Any, list[str], dict[str, pa.Array]], Any]  # the named columns of rows, and the answers


def _library(rows: Any) -> tuple[_Columns, _Beside]:
    """Return how to take columns out of rows, and how to put answers beside them, as the library of the rows does."""
    if isinstance(rows, pa.Table | pa.RecordBatch):
        return _arrow_columns, _arrow_beside
    for name, both in (("pandas", (_pandas_columns, _pandas_beside)), ("polars", (_polars_columns, _polars_beside))):
        loaded = sys.modules.get(name)  # who has rows of a library has it loaded
        if loaded is not None and isinstance(rows, loaded.DataFrame):
            return both
    kind = f"{type(rows).__module__.partition('.')[0]}.{type(rows).__name__}"
    raise DataError(
        f"rows: {kind} given; a pandas or Polars DataFrame or a pyarrow Table is needed "
        "(Dask: frame.map_partitions; Spark: frame.mapInArrow; Polars: lazy.collect)"
    )


def _check_names(given: list[Any], *, features: Sequence[str], keep: Sequence[str]) -> None:
    problems = [f"keep: column {name!r} is missing" for name in keep if name not in given]
    problems += [
        f"column {name!r}: {given.count(name)} columns have this name"
        for name in dict.fromkeys((*features, *keep))
        if given.count(name) > 1
    ]
    if problems:
        raise DataError(*problems)


def _arrow_columns(rows: Any, names: list[str]) -> Mapping[str, Any]:
    return {name: rows.column(name) for name in names}


def _arrow_beside(rows: Any, keep: list[str], answered: dict[str, pa.Array]) -> Any:
    return type(rows).from_pydict({**{name: rows.column(name) for name in keep}, **answered})


def _pandas_columns(rows: Any, names: list[str]) -> Mapping[str, Any]:
    made, problems = {}, []
    for name in names:
        try:
            made[name] = pa.array(rows[name], from_pandas=True)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            problems.append(f"column {name!r}: its values are not of one type: {error}")
    if problems:
        raise DataError(*problems)
    return made


def _pandas_beside(rows: Any, keep: list[str], answered: dict[str, pa.Array]) -> Any:
    # Bare arrays: a column with an index of its own would be matched with that of the rows, which may repeat itself.
    return rows[keep].assign(**{name: column.array for name, column in pa.table(answered).to_pandas().items()})


def _polars_columns(rows: Any, names: list[str]) -> Mapping[str, Any]:
    return {name: rows.get_column(name).to_arrow() for name in names}


def _polars_beside(rows: Any, keep: list[str], answered: dict[str, pa.Array]) -> Any:
    polars = import_module("polars")
    columns = polars.from_arrow(pa.table(answered)).get_columns()
    return polars.DataFrame([*(rows.get_column(name) for name in keep), *columns])
