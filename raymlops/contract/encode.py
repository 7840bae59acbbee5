"""Turn columns into the matrix that engines take, and name every value that breaks the contract.

Column by column: values become floats, categories their index, then the rules run over the floats. The same code
serves a table of a million rows and a request of one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raymlops.contract.columns import Column, fits, numbers, texts
from raymlops.contract.contract import Contract, Feature, Label
from raymlops.errors import DataError
from raymlops.values import Float32, Float64

__all__ = ["Encoded", "Violation", "encode", "encode_label"]

_LARGEST = float(np.finfo(np.float32).max)  # engines take float32: what is beyond it would become infinite
_UNKNOWN = -1.0  # an unknown category, until the rules have named it


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One value that breaks one rule; ``row`` counts from 0 within what was encoded."""

    row: int
    column: str
    rule: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """``x`` float32 [rows, features]; ``ok`` bool [rows]; rows that are not ok have at least one violation."""

    x: Float32
    ok: npt.NDArray[np.bool_]
    violations: tuple[Violation, ...]


def encode(contract: Contract, columns: Mapping[str, Column]) -> Encoded:
    """Return the matrix of the contract's features and every violation, in row order.

    Raise DataError, naming every column, when one is missing, of another length or of a type without meaning for
    its feature: then no row of the table can be answered.
    """
    problems = _column_problems(contract, columns)
    if problems:
        raise DataError(*problems)
    rows = len(columns[contract.names[0]]) if contract.features else 0
    x = np.empty((rows, len(contract.features)), dtype=np.float32)
    ok = np.ones(rows, dtype=np.bool_)
    violations: list[Violation] = []
    for index, feature in enumerate(contract.features):
        column = columns[feature.name]
        plain = _plain(feature, column)
        if plain is not None:
            x[:, index] = plain
            continue
        values = _floats(feature, column)
        for rule, mask in _broken(feature, values):
            ok &= ~mask
            violations += [
                Violation(row=int(row), column=feature.name, rule=rule, value=_shown(column, int(row)))
                for row in np.flatnonzero(mask)
            ]
        if feature.type == "category":
            values[values == _UNKNOWN] = np.nan
        with np.errstate(over="ignore"):  # a value too large for float32 has been refused by its rule
            x[:, index] = values
    return Encoded(
        x=x,
        ok=ok,
        violations=tuple(sorted(violations, key=lambda violation: violation.row)),
    )


def encode_label(label: Label, column: Column) -> Float64:
    """Return class indices or targets, float64 [rows]; NaN where there is no label.

    Raise DataError for a class that the contract does not know.
    """
    if label.task == "regression":
        return numbers(column)
    indices = _category_indices(label.classes, column)
    if (indices == _UNKNOWN).any():
        value = _shown(column, int(np.flatnonzero(indices == _UNKNOWN)[0]))
        raise DataError(f"label {label.name}: unknown class {value}, known are {', '.join(label.classes)}")
    return indices


def _column_problems(contract: Contract, columns: Mapping[str, Column]) -> list[str]:
    missing = [name for name in contract.names if name not in columns]
    problems = [f"column {name!r}: is missing; the model needs {', '.join(contract.names)}" for name in missing]
    lengths = {len(columns[name]) for name in contract.names if name in columns}
    if len(lengths) > 1:
        problems.append(f"columns have different numbers of rows: {sorted(lengths)}")
    for feature in contract.features:
        if feature.name in columns and not fits(feature.type, columns[feature.name].type):
            problems.append(f"column {feature.name!r}: type {columns[feature.name].type} given, {feature.type} needed")
    return problems


def _plain(feature: Feature, column: Column) -> npt.NDArray[np.floating] | None:
    """Return the column as it is where no rule of the feature can be broken and no value needs a cast; else None."""
    bounded = feature.minimum is not None or feature.maximum is not None
    if feature.type != "number" or bounded or column.null_count or not pa.types.is_float32(column.type):
        return None
    values = column.to_numpy()
    return values if np.isfinite(values).all() else None


def _floats(feature: Feature, column: Column) -> Float64:
    return _category_indices(feature.categories, column) if feature.type == "category" else numbers(column)


def _category_indices(categories: tuple[str, ...], column: Column) -> Float64:
    values = texts(column)
    index = pc.index_in(values, value_set=pa.array(categories, pa.string()))
    known = np.array(index.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    known[np.isnan(known)] = _UNKNOWN
    known[np.asarray(pc.is_null(values).to_numpy(zero_copy_only=False))] = np.nan
    return known


def _broken(feature: Feature, values: Float64) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    rules: list[tuple[str, npt.NDArray[np.bool_]]] = []
    if not feature.nullable:
        rules.append(("must not be missing", np.isnan(values)))
    if feature.type == "category":
        if feature.unknown == "reject":
            rules.append((f"must be one of {_some(feature.categories)}", values == _UNKNOWN))
    else:
        rules.append(("must be finite", np.abs(values) > _LARGEST))
    with np.errstate(invalid="ignore"):
        if feature.type == "integer":
            rules.append(("must be a whole number", np.isfinite(values) & (values != np.floor(values))))
        if feature.type == "boolean":
            rules.append(("must be true or false", np.isfinite(values) & (values != 0) & (values != 1)))
        if feature.minimum is not None:
            rules.append((f"must be at least {feature.minimum:g}", np.isfinite(values) & (values < feature.minimum)))
        if feature.maximum is not None:
            rules.append((f"must be at most {feature.maximum:g}", np.isfinite(values) & (values > feature.maximum)))
    return [(rule, mask) for rule, mask in rules if mask.any()]


def _some(categories: tuple[str, ...]) -> str:
    shown = ", ".join(categories[:12])
    return shown if len(categories) <= 12 else f"{shown}, … ({len(categories)} in all)"


def _shown(column: Column, row: int) -> str:
    return repr(column[row].as_py())[:80]
