"""A message is a row, or a row of nulls that says why it is none; what it holds is never changed to fit."""

import datetime as dt

import pyarrow as pa
import pytest

from raymlops.data.messages import infer_columns, schema_of, to_rows
from raymlops.errors import SpecError
from raymlops.values import UNREADABLE

_SCHEMA = pa.schema(
    [("x", pa.float64()), ("n", pa.int64()), ("t", pa.string()), ("when", pa.timestamp("us")), ("b", pa.bool_())]
)


def _one(message: bytes | None) -> dict[str, object]:
    made: dict[str, object] = to_rows([message], ["here"], _SCHEMA).to_pylist()[0]
    return {name: value for name, value in made.items() if value is not None}


@pytest.mark.parametrize(("message", "row"), [
    (b"{}", {}),
    (b'{"x": 1, "unknown": [1]}', {"x": 1.0}),
    (b'{"x": 9223372036854775807}', {"x": 9.223372036854775807e18}),
    (b'{"n": 9223372036854775807}', {"n": 9223372036854775807}),
    (b'{"n": 2.0}', {"n": 2}),
    (b'{\n"t": "a\\n"\n}', {"t": "a\n"}),
    (b'{"when": "2026-01-02T03:04:05"}', {"when": dt.datetime(2026, 1, 2, 3, 4, 5)}),
    (b'{"when": "2026-01-02T03:04:05+01:00"}', {"when": dt.datetime(2026, 1, 2, 2, 4, 5)}),
    (b'{"b": true}', {"b": True}),
])  # fmt: skip
def test_an_object_is_a_row(message: bytes, row: dict[str, object]) -> None:
    assert _one(message) == row


@pytest.mark.parametrize(("message", "why"), [
    (None, "here: is not a JSON object: it is empty"),
    (b"", "here: is not JSON"),
    (b"\xff", "here: is not JSON"),
    (b'{"x": 1} {"x": 2}', "here: is not JSON"),
    (b'{"x": NaN}', "here: is not JSON"),
    (b'"text"', 'here: is not a JSON object: "text"'),
    (b'{"x": "1"}', "here: column 'x' must be double, '1' given"),
    (b'{"x": true}', "here: column 'x' must be double, True given"),
    (b'{"n": 1.5}', "here: column 'n' must be int64, 1.5 given"),
    (b'{"n": 99999999999999999999}', "here: column 'n' must be int64, 1e+20 given"),
    (b'{"t": 1}', "here: column 't' must be string, 1 given"),
    (b'{"when": "noon"}', "here: column 'when' must be timestamp[us], 'noon' given"),
    (b'{"b": 1}', "here: column 'b' must be bool, 1 given"),
    (b'{"x": {"a": 1}}', "here: column 'x' must be double, {'a': 1} given"),
])  # fmt: skip
def test_what_is_no_row_says_why(message: bytes | None, why: str) -> None:
    made = _one(message)
    assert str(made.pop(UNREADABLE)).startswith(why)
    assert made == {}


def test_rows_keep_their_places_among_those_that_are_none() -> None:
    messages = [b'{"n": 0}', b"no", b'{"n": 2}', b'{"n": "no"}', b'{"n": 4}', b'{"n": 5.5}', b'{"n": 6}']
    rows = to_rows(messages, [str(index) for index in range(7)], _SCHEMA)
    assert rows.column("n").to_pylist() == [0, None, 2, None, 4, None, 6]
    assert [text and text[0] for text in rows.column(UNREADABLE).to_pylist()] == [None, "1", None, "3", None, "5", None]
    assert UNREADABLE not in to_rows(messages[::2], ["", "", "", ""], _SCHEMA).column_names


def test_types_are_those_of_the_values() -> None:
    messages = [b'{"a": 1, "b": null, "m": "x"}', b"no", b'{"a": 2.5, "c": true, "d": [1], "m": 1}', None]
    assert infer_columns(messages) == {"a": "double", "m": "string", "c": "bool"}
    with pytest.raises(SpecError, match=r"columns\.a: type 'number' given; an Arrow type such as int64"):
        schema_of({"a": "number"}, where="columns")
