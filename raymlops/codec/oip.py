"""The Open Inference Protocol v2 as values. Knows nothing of the texts and bytes that carry them.

A tensor's elements are one flat Arrow array in row-major order, because Arrow has a null and an exact type, and the
contract reads it as it is. A null stands for a missing value, and so does a float's NaN where a form has no null.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from raymlops.errors import DataError

__all__ = ["Datatype", "InferRequest", "InferResponse", "Parameters", "Tensor", "table_to_tensors", "tensor"]

Datatype = Literal[
    "BOOL",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "FP16",
    "FP32",
    "FP64",
    "BF16",
    "BYTES",
]
Parameters: TypeAlias = Mapping[str, bool | int | float | str]

_DATATYPE: dict[pa.DataType, Datatype] = {
    pa.bool_(): "BOOL",
    pa.int8(): "INT8",
    pa.int16(): "INT16",
    pa.int32(): "INT32",
    pa.int64(): "INT64",
    pa.uint8(): "UINT8",
    pa.uint16(): "UINT16",
    pa.uint32(): "UINT32",
    pa.uint64(): "UINT64",
    pa.float32(): "FP32",
    pa.float64(): "FP64",
    pa.string(): "BYTES",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A named array; ``data`` is flat and holds prod(``shape``) elements of the Arrow type of ``datatype``.

    That is halffloat for FP16, string for BYTES and float32 for BF16, of which every value is a float32.
    """

    name: str
    shape: tuple[int, ...]
    datatype: Datatype
    data: pa.Array
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class InferRequest:
    """Tensors to answer; ``outputs`` names the wanted answers in their order, None means all.

    ``output_parameters`` holds the parameters of those outputs that have some. ``model_name`` and ``model_version``
    are what the body says, empty if it does not; over HTTP the address decides.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...] | None = None
    id: str | None = None
    parameters: Parameters = field(default_factory=dict)
    output_parameters: Mapping[str, Parameters] = field(default_factory=dict)
    model_name: str = ""
    model_version: str = ""

    def wants_binary(self, output: str) -> bool:
        """Return whether an output is to be sent as binary data: as its own parameter says, else the request's."""
        general = self.parameters.get("binary_data_output", False)
        return bool(self.output_parameters.get(output, {}).get("binary_data", general))


@dataclass(frozen=True, slots=True, kw_only=True)
class InferResponse:
    """Answers, and which model and version gave them."""

    model_name: str
    model_version: str
    id: str
    outputs: tuple[Tensor, ...]
    parameters: Parameters = field(default_factory=dict)


def tensor(name: str, column: pa.Array | pa.ChunkedArray) -> Tensor:
    """Return a column as a tensor of shape [rows]; NaN becomes null. Raise DataError for a type that has no datatype.

    Half floats are sent as FP32, since other servers take FP16 only as binary data.

    >>> tensor("a", pa.array([1.5, float("nan")])).data.null_count
    1
    """
    data = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    data = _plain(data)
    if data.type not in _DATATYPE:
        raise DataError(
            f"column {name!r}: type {column.type} given; numbers, booleans and text can be sent, convert it first"
        )
    if pa.types.is_floating(data.type):
        data = pc.if_else(pc.is_nan(data), pa.scalar(None, data.type), data)
    return Tensor(name=name, shape=(len(data),), datatype=_DATATYPE[data.type], data=data)


def table_to_tensors(table: pa.Table, *, names: Iterable[str]) -> tuple[Tensor, ...]:
    """Return one tensor for each named column that the table has; other columns are left out."""
    present = set(table.column_names)
    return tuple(tensor(name, table.column(name)) for name in names if name in present)


def _plain(data: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(data.type):
        data = data.cast(data.type.value_type)
    if pa.types.is_large_string(data.type) or pa.types.is_string_view(data.type):
        return data.cast(pa.string())
    if pa.types.is_float16(data.type):
        return data.cast(pa.float32())
    if pa.types.is_decimal(data.type) or pa.types.is_null(data.type):
        return data.cast(pa.float64())
    return data
