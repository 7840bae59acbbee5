"""A column as floats or as texts, and whether it can be a feature of a type. Knows nothing of rules."""

from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raymlops.values import Float64

__all__ = ["Column", "fits", "numbers", "texts"]

Column: TypeAlias = "pa.Array | pa.ChunkedArray"


def numbers(column: Column) -> Float64:
    """Return float64 [rows]; a null becomes NaN, an infinity stays."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return np.array(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64)


def texts(column: Column) -> pa.Array:
    """Return strings [rows]; null and NaN become null, and whole numbers lose their `.0`."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if pa.types.is_floating(array.type):
        # A column of whole numbers with a missing value arrives as floats: 3.0 is the category "3".
        array = pc.if_else(pc.is_nan(array), None, array)
        small = pc.fill_null(pc.less(pc.abs(array), 2.0**53), True)
        whole = pc.all(pc.and_(small, pc.fill_null(pc.equal(array, pc.floor(array)), True))).as_py()
        array = array.cast(pa.int64()) if whole is not False else array
    return array.cast(pa.string())


def fits(feature_type: str, given: pa.DataType) -> bool:
    """Return whether a column of the given type can hold a feature of the named type."""
    if pa.types.is_null(given):
        return True
    if feature_type == "category":
        return not (pa.types.is_nested(given) or pa.types.is_binary(given))
    number = pa.types.is_integer(given) or pa.types.is_floating(given) or pa.types.is_decimal(given)
    return bool(number or pa.types.is_boolean(given))
