"""Infer a contract from training rows, then let the spec override it. Knows nothing of files."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raymlops.contract.columns import fits, numbers, texts
from raymlops.contract.contract import Contract, Feature, Label
from raymlops.errors import DataError
from raymlops.plugins import suggestion
from raymlops.spec import FeatureSpec
from raymlops.values import Task

__all__ = ["infer", "override"]

_MOST_CATEGORIES = 1_000
_MOST_INTEGER_CLASSES = 20
_MOST_CLASSES = 1_000


def infer(
    rows: pa.Table | Iterable[pa.Table],
    *,
    features: Sequence[str],
    label: str,
    task: Task | None = None,
    key: Sequence[str] = (),
    overrides: Mapping[str, FeatureSpec] | None = None,
) -> Contract:
    """Return the contract that the rows of a table, or of the parts of one, keep, with the spec's overrides applied.

    Text is a category, whole numbers integers, other numbers numbers. A feature is nullable if a row lacks it. Of
    parts, each is let go before the next, but for its labels. Raise DataError naming every column that cannot be a
    feature and every reason.
    """
    overrides = overrides or {}
    found: dict[str, Feature] = {}
    problems: dict[str, str] = {}
    labels: list[pa.Table] = []
    for part in [rows] if isinstance(rows, pa.Table) else rows:
        _check_there(part, (*features, label, *key))
        for name in features:
            try:
                spec = overrides.get(name, FeatureSpec())
                made = _feature(name, part.column(name), spec)
                found[name] = _joined(found[name], made, spec) if name in found else made
            except DataError as error:
                problems.setdefault(name, error.problems[0])
        labels.append(part.select([label]))
    if problems:
        raise DataError(*problems.values())
    column = pa.concat_tables(labels, promote_options="default").column(label)
    contract = Contract(
        features=tuple(found[name] for name in features), label=_label(label, column, task), key=tuple(key)
    )
    return override(contract, overrides)


def _check_there(table: pa.Table, wanted: Sequence[str]) -> None:
    names = tuple(table.column_names)
    absent = [name for name in wanted if name not in names]
    if absent:
        raise DataError(
            *(
                f"column {name!r}: not in the data{suggestion(name, names)}; it has {', '.join(names)}"
                for name in absent
            )
        )


def override(contract: Contract, overrides: Mapping[str, FeatureSpec]) -> Contract:
    """Return the contract with what the spec says of a feature in place of what was inferred."""
    unknown = [name for name in overrides if name not in contract.names]
    if unknown:
        raise DataError(
            *(f"data.contract.{name}: is not a feature{suggestion(name, contract.names)}" for name in unknown)
        )
    return Contract(
        features=tuple(_overridden(feature, overrides.get(feature.name)) for feature in contract.features),
        label=contract.label,
        key=contract.key,
    )


def _feature(name: str, column: pa.ChunkedArray, spec: FeatureSpec) -> Feature:
    kind = spec.type or _type(name, column.type)
    if not fits(kind, column.type):
        raise DataError(f"data.contract.{name}.type: {kind} given, the column is {column.type}")
    if kind == "category":
        values = texts(column)
        categories = tuple(sorted(v for v in pc.unique(values).to_pylist() if v is not None))
        return _not_too_many(Feature(name=name, type=kind, nullable=values.null_count > 0, categories=categories), spec)
    floats = numbers(column)
    finite = floats[np.isfinite(floats)]
    return Feature(
        name=name,
        type=kind,
        nullable=bool(np.isnan(floats).any()),
        observed=(float(finite.min()), float(finite.max())) if len(finite) else None,
    )


def _joined(one: Feature, other: Feature, spec: FeatureSpec) -> Feature:
    """Return the feature of the rows of two parts; one that holds no value has the type of the other."""
    first, second = (one, other) if _says_more(one) else (other, one)
    if first.type != second.type and _says_more(second):
        raise DataError(f"column {one.name!r}: is {one.type} in some rows and {other.type} in others; name its type")
    bounds = [feature.observed for feature in (one, other) if feature.observed]
    made = Feature(
        name=one.name,
        type=first.type,
        nullable=one.nullable or other.nullable,
        categories=tuple(sorted({*one.categories, *other.categories})),
        observed=(min(low for low, _ in bounds), max(high for _, high in bounds)) if bounds else None,
    )
    return _not_too_many(made, spec)


def _says_more(feature: Feature) -> bool:
    return bool(feature.categories) or feature.observed is not None


def _not_too_many(feature: Feature, spec: FeatureSpec) -> Feature:
    if len(feature.categories) > _MOST_CATEGORIES and spec.categories is None:
        raise DataError(
            f"column {feature.name!r}: {len(feature.categories)} categories, at most {_MOST_CATEGORIES} are allowed; "
            "put it in data.exclude, or in data.key if it names a row"
        )
    return feature


def _type(name: str, given: pa.DataType) -> Literal["number", "integer", "boolean", "category"]:
    if pa.types.is_boolean(given):
        return "boolean"
    if pa.types.is_integer(given):
        return "integer"
    if pa.types.is_floating(given) or pa.types.is_decimal(given) or pa.types.is_null(given):
        return "number"
    if pa.types.is_string(given) or pa.types.is_large_string(given) or pa.types.is_dictionary(given):
        return "category"
    raise DataError(
        f"column {name!r}: type {given} cannot be a feature; numbers, booleans and text can. Put it in data.exclude"
    )


def _label(name: str, column: pa.ChunkedArray, task: Task | None) -> Label:
    present = column.drop_null()
    if pa.types.is_floating(column.type):
        present = present.filter(pc.is_finite(present))
    number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)
    classes = () if task == "regression" else _classes(present)
    if task is None:
        few = 2 < len(classes) <= _MOST_INTEGER_CLASSES and not pa.types.is_floating(column.type)
        task = "binary" if len(classes) == 2 else "multiclass" if few or not number else "regression"
    if pc.count_distinct(present).as_py() < 2:
        raise DataError(f"label {name!r}: has {len(present):,} values and fewer than 2 different ones to learn from")
    if task == "regression":
        if not number:
            raise DataError(f"label {name!r}: type {column.type} given, regression needs numbers")
        return Label(name=name, task=task)
    if len(classes) < 2 or (task == "binary" and len(classes) != 2):
        raise DataError(
            f"label {name!r}: {len(classes)} classes in the training rows ({', '.join(classes[:5])}), "
            f"{'exactly' if task == 'binary' else 'at least'} 2 are needed for {task}"
        )
    if len(classes) > _MOST_CLASSES:
        raise DataError(
            f"label {name!r}: {len(classes):,} classes, at most {_MOST_CLASSES:,} are allowed; is it the right column?"
        )
    return Label(name=name, task=task, classes=classes)


def _classes(present: pa.ChunkedArray) -> tuple[str, ...]:
    found = [text for text in pc.unique(texts(present)).to_pylist() if text is not None]
    return tuple(sorted(found, key=float if all(_is_number(text) for text in found) else str))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _overridden(feature: Feature, spec: FeatureSpec | None) -> Feature:
    if spec is None:
        return feature
    return Feature(
        name=feature.name,
        type=feature.type,
        nullable=feature.nullable if spec.nullable is None else spec.nullable,
        minimum=spec.min,
        maximum=spec.max,
        observed=feature.observed,
        categories=feature.categories if spec.categories is None else spec.categories,
        unknown=spec.unknown,
    )
