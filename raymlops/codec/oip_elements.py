"""The elements of one tensor between an Arrow array and each form that carries them. Knows nothing of requests.

Binary is little-endian, row-major, without padding; BOOL is a byte of 0 or 1; BYTES is for each element its length as
4 bytes and then itself. The protocol does not say how FP16 and BF16 look in JSON: here they are numbers like FP32's.
Every number is rounded to the nearest value of its datatype, to the even one of two.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa

from raymlops.codec.oip import Tensor
from raymlops.errors import DataError, SpecError

__all__ = [
    "DATATYPES",
    "from_binary",
    "from_json",
    "from_texts",
    "is_float",
    "shown",
    "to_binary",
    "to_json",
    "to_typed",
]

Bytes: TypeAlias = bytes | memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """How one datatype lies in memory: ``letter`` packs an element of JSON by `struct` into one of ``arrow``.

    ``listed`` is the type of a JSON list without nulls. ``wire`` is an element of the binary form; it is that of
    ``arrow`` but for BOOL and BF16.
    """

    arrow: pa.DataType
    listed: Any
    words: str
    letter: str = ""
    wire: np.dtype[Any] | None = None


def _number(arrow: pa.DataType, letter: str, *, wire: str = "") -> _Form:
    floating = pa.types.is_floating(arrow)
    return _Form(
        arrow=arrow,
        listed=list[float] if floating else list[int],
        words="numbers" if floating else "whole numbers",
        letter=letter,
        wire=np.dtype(wire or f"<{letter}"),
    )


_FORMS = {
    "BOOL": _Form(arrow=pa.bool_(), listed=list[bool], words="true, false", wire=np.dtype("u1")),
    "INT8": _number(pa.int8(), "b"),
    "INT16": _number(pa.int16(), "h"),
    "INT32": _number(pa.int32(), "i"),
    "INT64": _number(pa.int64(), "q"),
    "UINT8": _number(pa.uint8(), "B"),
    "UINT16": _number(pa.uint16(), "H"),
    "UINT32": _number(pa.uint32(), "I"),
    "UINT64": _number(pa.uint64(), "Q"),
    "FP16": _number(pa.float16(), "e"),
    "FP32": _number(pa.float32(), "f"),
    "FP64": _number(pa.float64(), "d"),
    "BF16": _number(pa.float32(), "f", wire="<u2"),
    "BYTES": _Form(arrow=pa.string(), listed=list[str], words="texts"),
}
DATATYPES = tuple(_FORMS)


def is_float(datatype: str) -> bool:
    """Return whether a datatype has NaN, so that its binary form can say that a value is missing."""
    return bool(_FORMS[datatype].listed == list[float])


def from_json(elements: list[Any], datatype: str, place: str) -> pa.Array:
    """Return the elements of a flat JSON list; raise SpecError naming the first that is none of the datatype."""
    form = _FORMS[datatype]
    try:
        # msgspec looks at each type in a quarter of Python's time, struct takes half of NumPy's for a list and a third
        # of Arrow's, and refuses what is out of range.
        plain = msgspec.convert(elements, form.listed)
        if not form.letter:
            return pa.array(plain, form.arrow)
        if datatype != "BF16":
            packed = struct.pack(f"<{len(plain)}{form.letter}", *plain)
            return pa.Array.from_buffers(form.arrow, len(plain), [None, pa.py_buffer(packed)])
    except (msgspec.ValidationError, struct.error, OverflowError):
        pass  # a null, or a fault to be named
    return _looked_at(elements, datatype, place)


def _looked_at(elements: list[Any], datatype: str, place: str) -> pa.Array:
    form = _FORMS[datatype]
    if not _are(elements, form.listed):
        wrong = next(i for i, element in enumerate(elements) if not _are([element], form.listed))
        raise SpecError(f"{place}[{wrong}]: {shown(elements[wrong])} given; {datatype} needs {form.words} or null")
    if not form.letter:
        return pa.array(elements, form.arrow)
    filled = [0 if element is None else element for element in elements]
    try:
        numbers = np.frombuffer(struct.pack(f"<{len(filled)}{form.letter}", *filled), f"<{form.letter}")
    except (struct.error, OverflowError):
        wrong = next(i for i, element in enumerate(filled) if not _fits(element, form.letter))
        raise SpecError(f"{place}[{wrong}]: {shown(filled[wrong])} given; is out of range of {datatype}") from None
    if datatype == "BF16":
        numbers = _widened(_bfloat16(numbers))
        if np.isinf(numbers).any():
            wrong = int(np.flatnonzero(np.isinf(numbers))[0])
            raise SpecError(f"{place}[{wrong}]: {shown(filled[wrong])} given; is out of range of {datatype}")
    return pa.array(numbers, form.arrow, mask=np.array([element is None for element in elements], np.bool_))


def _are(elements: list[Any], listed: Any) -> bool:
    try:
        msgspec.convert([element for element in elements if element is not None], listed)
    except msgspec.ValidationError:
        return False
    return True


def _fits(element: float, letter: str) -> bool:
    try:
        struct.pack(f"<{letter}", element)
    except (struct.error, OverflowError):
        return False
    return True


def from_binary(data: Bytes, datatype: str, count: int, place: str) -> pa.Array:
    """Return `count` elements of a binary tensor, without a copy where its memory is aligned.

    A NaN is a missing value and becomes null. Raise SpecError for too few or too many bytes, for a BOOL that is
    neither 0 nor 1, and for BYTES that are not UTF-8, naming the element.
    """
    form = _FORMS[datatype]
    if form.wire is None:
        return from_texts(_cut(data, count, place), place)
    if len(data) != count * form.wire.itemsize:
        raise SpecError(
            f"{place}: {len(data)} bytes given; {count} elements of {datatype} need {count * form.wire.itemsize}"
        )
    # Engines and NumPy may read a vector of elements at once, for which memory must be aligned.
    buffer = pa.py_buffer(data)
    buffer = buffer if buffer.address % form.wire.itemsize == 0 else pa.py_buffer(bytes(data))
    numbers: np.ndarray = np.frombuffer(buffer, form.wire)
    if datatype == "BOOL":
        return _truths(numbers, place)
    if datatype == "BF16":
        numbers = _widened(numbers)
        buffer = pa.py_buffer(numbers)
    if is_float(datatype) and np.isnan(numbers).any():
        return pa.array(numbers, form.arrow, from_pandas=True)
    return pa.Array.from_buffers(form.arrow, count, [None, buffer])


def _truths(numbers: np.ndarray, place: str) -> pa.Array:
    wrong = np.flatnonzero(numbers > 1)
    if len(wrong):
        raise SpecError(f"{place}[{wrong[0]}]: byte {numbers[wrong[0]]} given; BOOL needs 0 or 1")
    return pa.array(numbers.view(np.bool_))


def _cut(data: Bytes, count: int, place: str) -> list[bytes]:
    if len(data) < 4 * count:
        raise SpecError(f"{place}: {len(data)} bytes given; {count} elements of BYTES need 4 each for their lengths")
    found: list[bytes] = []
    at = 0
    for index in range(count):
        start = at + 4
        at = start + int.from_bytes(data[at:start], "little")
        if start > len(data) or at > len(data):
            left = max(len(data) - start, 0)
            raise SpecError(f"{place}[{index}]: length {at - start} given; {left} bytes are left")
        found.append(bytes(data[start:at]))
    if at != len(data):
        raise SpecError(f"{place}: {len(data)} bytes given; {count} elements of BYTES end after {at}")
    return found


def from_texts(elements: Sequence[bytes], place: str) -> pa.Array:
    """Return the elements of a BYTES tensor; raise SpecError naming the first that is not UTF-8."""
    try:
        return pa.array(elements, pa.string())
    except pa.ArrowInvalid:
        wrong = next(i for i, element in enumerate(elements) if not _is_text(element))
        raise SpecError(f"{place}[{wrong}]: {elements[wrong][:60]!r} given; BYTES needs UTF-8 here") from None


def _is_text(element: bytes) -> bool:
    try:
        element.decode()
    except UnicodeDecodeError:
        return False
    return True


def to_json(value: Tensor, *, missing: bool) -> Any:
    """Return the elements as orjson writes them: a missing one as null.

    Raise DataError for an infinity, and without `missing` for a null or NaN among floats.
    """
    if not is_float(value.datatype):
        return value.data.to_pylist()
    numbers = _floats(value)
    _refuse(value, numbers, np.isinf(numbers) if missing else ~np.isfinite(numbers), "JSON cannot hold it")
    return numbers


def to_binary(value: Tensor, *, missing: bool) -> bytes:
    """Return the elements in their binary form, a missing float as NaN; raise DataError as `to_typed` does."""
    form = _FORMS[value.datatype]
    plain = _complete(value, missing=missing)
    if form.wire is None:
        return b"".join(part for text in plain.to_pylist() for part in (len(text).to_bytes(4, "little"), text))
    halves = _bfloat16(plain) if value.datatype == "BF16" else plain
    return halves.astype(form.wire, copy=False).tobytes()


def to_typed(value: Tensor, *, missing: bool) -> list[Any]:
    """Return the elements as Python's own, BYTES as bytes, a missing float as NaN.

    Raise DataError for any other null, and without `missing` for every float that is not finite.
    """
    elements: list[Any] = _complete(value, missing=missing).tolist()
    return elements


def _complete(value: Tensor, *, missing: bool) -> Any:
    """Return an array without nulls: of NumPy, or for BYTES of Arrow."""
    if is_float(value.datatype):
        numbers = _floats(value)
        if not missing:
            _refuse(value, numbers, ~np.isfinite(numbers), "an answer must be")
        return numbers
    if value.data.null_count:
        at = value.data.is_null().index(True).as_py()
        raise DataError(f"tensor {value.name!r}: element {at} is missing; {value.datatype} has no null but in JSON")
    return value.data.cast(pa.binary()) if value.datatype == "BYTES" else value.data.to_numpy(zero_copy_only=False)


def _floats(value: Tensor) -> np.ndarray:
    """Return the floats of a tensor; what is missing is NaN, whatever lies beneath a null."""
    numbers = np.ascontiguousarray(value.data.to_numpy(zero_copy_only=False))
    return _widened(_bfloat16(numbers)) if value.datatype == "BF16" else numbers


def _refuse(value: Tensor, numbers: np.ndarray, bad: np.ndarray, why: str) -> None:
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        raise DataError(f"tensor {value.name!r}: {numbers[at]} at element {at} is not finite, {why}")


def _bfloat16(numbers: np.ndarray) -> np.ndarray:
    """Return the upper halves of float32, uint16, rounded to nearest, ties to even; a NaN stays one."""
    bits = np.ascontiguousarray(numbers, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(numbers), np.uint32(0x7FC0), rounded).astype(np.uint16)


def _widened(halves: np.ndarray) -> np.ndarray:
    return (halves.astype(np.uint32) << np.uint32(16)).view(np.float32)


def shown(value: Any) -> str:
    """Return a short text of any JSON value without building a long one first."""
    if isinstance(value, list):
        return (
            f"a list of {len(value)}"
            if len(value) > 8 or any(isinstance(v, list | dict) for v in value)
            else f"{value!r:.80}"
        )
    if isinstance(value, dict):
        return f"an object of {len(value)} keys"
    return f"{value[:60]!r}" if isinstance(value, str) else "nothing" if value is None else f"{value!r:.80}"
