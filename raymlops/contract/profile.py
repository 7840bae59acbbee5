"""The profile of a table: one mergeable summary a feature, taken as the contract reads it. Knows nothing of drift.

Training writes it beside the model as the reference; monitoring takes it again of every period of production.
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raymlops.contract.columns import Column, fits, numbers, texts
from raymlops.contract.contract import Contract, Feature
from raymlops.errors import DataError
from raymlops.plugins import suggestion
from raymlops.sketch import ColumnProfile, merge, profile_categories, profile_numbers

__all__ = ["profile_parts", "profile_table"]


def profile_table(contract: Contract, table: pa.Table) -> dict[str, ColumnProfile]:
    """Return the profile of every feature of the contract, in its order; profiles of parts merge to that of the whole.

    Numbers, integers and booleans are sketched; null, NaN and both infinities count as missing. Categories that the
    contract names are counted by name, all others together (`other`), so that a profile's size depends on the
    contract and not on the rows. Constant, all-null and empty columns are profiled like any other. Raise DataError,
    naming every column, when one is absent or of a type without meaning for its feature.
    """
    problems = [problem for feature in contract.features if (problem := _problem(feature, table))]
    if problems:
        raise DataError(*problems)
    return {feature.name: _profile(feature, table.column(feature.name)) for feature in contract.features}


def profile_parts(contract: Contract, parts: Iterable[pa.Table]) -> dict[str, ColumnProfile]:
    """Return the profile of the rows of all parts, of which one at a time is held. Raise DataError as for a table."""
    found = [profile_table(contract, part) for part in parts]
    return {name: merge(*(one[name] for one in found)) if len(found) > 1 else found[0][name] for name in contract.names}


def _problem(feature: Feature, table: pa.Table) -> str:
    names = tuple(table.column_names)
    if feature.name not in names:
        return f"column {feature.name!r}: is missing{suggestion(feature.name, names)}; the data has {', '.join(names)}"
    given = table.column(feature.name).type
    return "" if fits(feature.type, given) else f"column {feature.name!r}: type {given} given, {feature.type} needed"


def _profile(feature: Feature, column: Column) -> ColumnProfile:
    if feature.type != "category":
        return profile_numbers(np.asarray(numbers(column), dtype=np.float64))
    values = texts(_finite(column))
    counted = pc.value_counts(values)
    found = dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))
    missing = int(found.pop(None, 0))
    known = {name: int(found[name]) for name in feature.categories if name in found}
    return profile_categories(known, missing=missing, other=len(values) - missing - sum(known.values()))


def _finite(column: Column) -> Column:
    """An infinity is no category: it counts as missing, as it does for numbers."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return pc.if_else(pc.is_finite(array), array, None) if pa.types.is_floating(array.type) else array
