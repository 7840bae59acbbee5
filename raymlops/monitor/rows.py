"""The rows of a scored window, and what the model answered to them. Knows nothing of drift or metrics."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raymlops.contract import Contract, answer_schema
from raymlops.data import ScoreManifest, read_answers, source, table
from raymlops.errors import DataError
from raymlops.spec import Spec

__all__ = ["answered", "incoming", "match"]


def incoming(spec: Spec, contract: Contract, scores: ScoreManifest) -> pa.Table:
    """Return key, features, time and label of every row of the window, also of rows that were refused.

    A label that the scored rows do not hold yet is looked up in `data.source` by key; null where there is none.
    """
    asked = spec.model_copy(update={"data": spec.data.model_copy(update={"source": scores.input})})
    held = source(asked).schema().names
    wanted = dict.fromkeys([*spec.data.key, *contract.names, *_time(spec), contract.label.name])
    rows = table(asked, on=scores.on, columns=[name for name in wanted if name in held])
    if contract.label.name in held:
        return rows
    return rows.append_column(contract.label.name, _late_labels(spec, contract, rows))


def answered(spec: Spec, contract: Contract, scores: ScoreManifest, rows: pa.Table) -> tuple[pa.Table, str]:
    """Return label, time and answers of every scored row, and why there are none where the columns are missing.

    Rows and answers meet by `data.key`; without one, label and time come from the columns of `score.keep`.
    """
    answers = [name for name, _ in answer_schema(contract.label)]
    beside = list(dict.fromkeys([contract.label.name, *_time(spec)]))
    if spec.data.key:
        parts = read_answers(scores, columns=[*spec.data.key, *answers])
        where = match(parts, rows, by=spec.data.key)
        found = np.flatnonzero(where >= 0)
        joined = parts.select(answers).take(found)
        for name in beside:
            joined = joined.append_column(name, rows.column(name).take(where[found]))
        return joined, ""
    held = [*(scores.keep if scores.scored else ())]
    absent = [name for name in beside if name not in held]
    if absent:
        why = f"answers meet no labels: give data.key, or put {' and '.join(absent)} in score.keep and score again"
        return rows.slice(0, 0), why
    return read_answers(scores, columns=[*beside, *answers]), ""


def match(left: pa.Table, right: pa.Table, *, by: Sequence[str]) -> np.ndarray:
    """Return for each row of `left` the row of `right` with the same key, -1 where there is none; int64 [rows].

    A null in a key matches nothing. Raise DataError when a key names more than one row of a side.
    """
    sides = []
    for name, side in (("left", left), ("right", right)):
        keys = pa.table({column: _plain(side.column(column), right.schema.field(column).type) for column in by})
        _refuse_repeated(keys, by)
        sides.append(keys.append_column(f"__{name}", pa.array(np.arange(side.num_rows))))
    pairs = sides[0].join(sides[1], keys=[*by], join_type="inner", use_threads=False)
    where = np.full(left.num_rows, -1, dtype=np.int64)
    where[pairs.column("__left").to_numpy()] = pairs.column("__right").to_numpy()
    return where


def _time(spec: Spec) -> tuple[str, ...]:
    return (spec.data.time,) if spec.data.time else ()


def _late_labels(spec: Spec, contract: Contract, rows: pa.Table) -> pa.Array:
    if not spec.data.key or any(name not in rows.column_names for name in spec.data.key):
        return pa.nulls(rows.num_rows)
    labels = table(spec, on=None, columns=[*spec.data.key, contract.label.name])
    where = match(rows, labels, by=spec.data.key)
    return labels.column(contract.label.name).take(pa.array(where, mask=where < 0))


def _plain(column: pa.ChunkedArray, like: pa.DataType) -> pa.ChunkedArray:
    """A join takes no dictionaries and no null type, and both sides must be of one type."""
    wanted = like.value_type if pa.types.is_dictionary(like) else like
    return column.cast(pa.string() if pa.types.is_null(wanted) else wanted)


def _refuse_repeated(keys: pa.Table, by: Sequence[str]) -> None:
    held = keys.drop_null()
    found = held.group_by([*by], use_threads=False).aggregate([([], "count_all")])
    repeated = found.filter(pc.greater(found.column("count_all"), 1))
    if repeated.num_rows:
        example = ", ".join(f"{name}={repeated.column(name)[0].as_py()!r}" for name in by)
        raise DataError(
            f"data.key: {repeated.num_rows:,} keys name more than one row, such as {example}; answers cannot be "
            "joined to their rows, name columns that together name one row"
        )
