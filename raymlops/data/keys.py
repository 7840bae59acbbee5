"""The key of a row as text: equal values give equal text, however wide or in what unit a file keeps them."""

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa

from raymlops.codec import dumps

__all__ = ["key_texts"]

_LONGEST = 2**63  # beyond it a number is no integer of JSON


def key_texts(rows: pa.Table, names: Sequence[str]) -> list[str]:
    """Return the columns `names` of each row as one JSON object, sorted by name.

    >>> key_texts(pa.table({"id": [7.0, None], "day": ["mon", "tue"]}), ["id", "day"])
    ['{"day":"mon","id":7}', '{"day":"tue","id":null}']
    """
    columns = [[_plain(value) for value in rows.column(name).to_pylist()] for name in names]
    return [dumps(dict(zip(names, values, strict=True))).decode() for values in zip(*columns, strict=True)]


def _plain(value: Any) -> Any:
    if isinstance(value, float | Decimal):
        if not math.isfinite(value):
            return None if math.isnan(value) else str(value)
        if -_LONGEST < value < _LONGEST and value == int(value):
            return int(value)
        return value if isinstance(value, float) else format(value.normalize(), "f")
    if isinstance(value, datetime):
        return (value.astimezone(UTC) if value.tzinfo else value).isoformat()
    if isinstance(value, date | time):
        return value.isoformat()
    return value if value is None or isinstance(value, bool | int | str) else str(value)
