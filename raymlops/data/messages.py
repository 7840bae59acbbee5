"""JSON objects as rows, one a message; what is none becomes a row that says so. Knows nothing of their way here."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pyarrow as pa

from raymlops.errors import SpecError
from raymlops.values import UNREADABLE

__all__ = ["infer_columns", "schema_of", "to_rows"]

_SHOWN = 200


def to_rows(messages: Sequence[bytes | None], places: Sequence[str], schema: pa.Schema) -> pa.Table:
    """Return a row for each message, in order: an absent key is a null, a key that is no column is not looked at.

    A message that is no JSON object, or has a value that its column cannot hold, is a row of nulls, and the column
    UNREADABLE says so with its place. That column is there only if it says something.
    """
    said: list[str | None] = [None] * len(messages)
    objects: list[dict[str, Any]] = []
    at: list[int] = []
    for index, message in enumerate(messages):
        try:
            value = orjson.loads(message) if message is not None else None
        except orjson.JSONDecodeError as error:
            said[index] = f"{places[index]}: is not JSON ({error}): {_shown(message)}"
            continue
        if isinstance(value, dict):
            objects.append(value)
            at.append(index)
        else:
            said[index] = f"{places[index]}: is not a JSON object: {_shown(message)}"
    parts: list[pa.Table] = []
    for good, table in _converted(objects, schema):
        if isinstance(table, str):
            said[at[good]] = f"{places[at[good]]}: {table}: {_shown(messages[at[good]])}"
        else:
            parts.append(table)
    rows = pa.concat_tables([schema.empty_table(), *parts]).combine_chunks()
    if rows.num_rows == len(messages):
        return rows
    found = iter(range(rows.num_rows))
    spread = rows.take(pa.array([next(found) if text is None else None for text in said], pa.int64()))
    return spread.append_column(UNREADABLE, pa.array(said, pa.string()))


def infer_columns(messages: Sequence[bytes | None]) -> dict[str, str]:
    """Return name and type of each column that the objects among the messages have, in the order they come.

    Whole numbers and numbers are numbers; a column that mixes other types has that of its first value. One that is
    null everywhere, or holds lists or objects, is none.

    >>> infer_columns([b'{"a": 1, "b": "x"}', b'{"a": 1.5, "c": [1]}'])
    {'a': 'double', 'b': 'string'}
    """
    values: dict[str, list[Any]] = {}
    for message in messages:
        try:
            value = orjson.loads(message or b"")
        except orjson.JSONDecodeError:
            continue
        for name, one in value.items() if isinstance(value, dict) else ():
            values.setdefault(name, []).append(one)
    types = {name: _type_of([one for one in found if one is not None]) for name, found in values.items()}
    return {name: str(kind) for name, kind in types.items() if not (pa.types.is_null(kind) or pa.types.is_nested(kind))}


def schema_of(columns: Mapping[str, str], *, where: str) -> pa.Schema:
    """Return the schema of columns given by name and Arrow type, such as int64, double, string, bool, timestamp[us]."""
    fields, problems = [], []
    for name, kind in columns.items():
        try:
            fields.append((name, pa.type_for_alias(kind)))
        except ValueError:
            problems.append(
                f"{where}.{name}: type {kind!r} given; an Arrow type such as int64, double, string, bool or "
                "timestamp[us] is needed"
            )
    if problems:
        raise SpecError(*problems)
    return pa.schema(fields)


def _converted(
    objects: Sequence[dict[str, Any]], schema: pa.Schema, first: int = 0
) -> list[tuple[int, pa.Table | str]]:
    """Return tables of the objects in order, or for one that does not fit why not; each with its place in the list."""
    if not objects:
        return []
    try:
        return [(first, _table(objects, schema))]
    except (pa.ArrowException, OverflowError, TypeError, ValueError) as error:
        if len(objects) == 1:
            return [(first, _why(objects[0], schema) or str(error))]
    # Halves until the one that does not fit stands alone: a few bad ones cost little.
    half = len(objects) // 2
    return [*_converted(objects[:half], schema, first), *_converted(objects[half:], schema, first + half)]


def _table(objects: Sequence[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    columns = [_column([one.get(field.name) for one in objects], field.type) for field in schema]
    return pa.table(columns, schema=schema) if columns else pa.Table.from_pylist([{}] * len(objects), schema=schema)


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Return the values as an array that holds exactly them; raise where one is of another type or would be changed."""
    given = set(map(type, values))
    if bool in given and not pa.types.is_boolean(kind):
        raise ValueError("true or false where the column holds other values")
    if pa.types.is_temporal(kind) and str in given:
        return _moments(pa.array(values, pa.string()), kind)
    if pa.types.is_integer(kind) and float in given:
        return pa.array(values, pa.float64()).cast(kind)  # pa.array would cut 1.5 down to 1
    if pa.types.is_floating(kind) and int in given:
        # Arrow refuses a whole number above 2^53 in a float; Python rounds it as every JSON reader does.
        return pa.array([float(one) if type(one) is int else one for one in values], kind)
    return pa.array(values, kind)


def _moments(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    try:
        return texts.cast(kind)
    except pa.ArrowInvalid:
        if not pa.types.is_timestamp(kind) or kind.tz:
            raise
        return texts.cast(pa.timestamp(kind.unit, "UTC")).cast(kind)  # it names a zone: as it is in UTC


def _why(value: dict[str, Any], schema: pa.Schema) -> str:
    for field in schema:
        try:
            _column([value.get(field.name)], field.type)
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            return f"column {field.name!r} must be {field.type}, {value[field.name]!r:.80} given"
    return ""


def _type_of(values: Sequence[Any]) -> pa.DataType:
    try:
        return pa.infer_type(values)
    except (pa.ArrowException, OverflowError):
        return pa.infer_type(values[:1])


def _shown(message: bytes | None) -> str:
    return "it is empty" if message is None else message[:_SHOWN].decode("utf-8", "backslashreplace")
