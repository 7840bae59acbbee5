"""What a window of production shows, period by period: quality where labels are there, drift everywhere. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raymlops.contract import Contract, answer_schema, encode_label, profile_table
from raymlops.contract.columns import texts
from raymlops.data.periods import Period, period_names, split
from raymlops.protocols import DriftTest
from raymlops.sketch import ColumnProfile
from raymlops.stats import metric_value
from raymlops.values import Float32, JsonValue

__all__ = ["Question", "evidence"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of a window: the model's contract and reference, its metric, the tests, and what a period is."""

    contract: Contract
    reference: Mapping[str, ColumnProfile]
    metric: str
    tests: Sequence[tuple[str, DriftTest]]
    period: Period
    time: str | None


def evidence(question: Question, rows: pa.Table, answered: pa.Table, *, why: str = "") -> list[dict[str, JsonValue]]:
    """Return one entry a period, in order: rows, quality and drift.

    `rows` holds the features of all rows, `answered` label and answers of those that were scored, `why` the reason
    if there are none. `metric`, `rate` and `predicted` are None with a `reason` where labels do not define them.
    """
    scored = dict(split(answered, _names(question, answered)))
    found = []
    for name, part in split(rows, _names(question, rows)):
        quality = _quality(question, scored.get(name, answered.slice(0, 0)), why)
        found.append({"period": name, "rows": part.num_rows, **quality, **_drift(question, part)})
    return found


def _names(question: Question, table: pa.Table) -> pa.Array:
    if question.time is None or question.time not in table.column_names:
        return pa.repeat("all", table.num_rows)
    return period_names(table.column(question.time), question.period)


def _quality(question: Question, answered: pa.Table, why: str) -> dict[str, JsonValue]:
    label = question.contract.label
    if answered.num_rows == 0:
        nothing = dict.fromkeys(("metric", "rate", "predicted"))
        return {"scored": 0, "labelled": 0, **nothing, "reason": why or "no row of this period was scored"}
    p = _answers(question.contract, answered)
    given, unknown = _known_labels(question.contract, answered.column(label.name))
    y = encode_label(label, given)
    held = np.isfinite(y) & np.isfinite(p).reshape(len(y), -1).all(axis=1)
    value = metric_value(question.metric, y[held], p[held]) if held.any() else float("nan")
    return {
        "scored": answered.num_rows,
        "labelled": int(held.sum()),
        "metric": float(value) if np.isfinite(value) else None,
        "rate": float(y[held].mean()) if held.any() and label.task != "multiclass" else None,
        "predicted": float(np.nanmean(p)) if np.isfinite(p).any() and label.task != "multiclass" else None,
        "reason": _reason(question, y[held], float(value), unknown),
    }


def _answers(contract: Contract, answered: pa.Table) -> Float32:
    names = [name for name, kind in answer_schema(contract.label) if kind == pa.float32()]
    columns = [answered.column(name).cast(pa.float32()).to_numpy() for name in names]
    return np.asarray(columns[0] if len(columns) == 1 else np.stack(columns, axis=1), dtype=np.float32)


def _known_labels(contract: Contract, column: pa.ChunkedArray) -> tuple[pa.ChunkedArray | pa.Array, int]:
    """A class that training has never seen must not stop the watch: it is counted and left out."""
    if contract.label.task == "regression":
        return column, 0
    found = texts(column)
    known = pc.is_in(found, value_set=pa.array(contract.label.classes, pa.string()))
    unknown = pc.sum(pc.and_(pc.invert(known), pc.is_valid(found))).as_py() or 0
    return pc.if_else(known, found, None), int(unknown)


def _reason(question: Question, y: np.ndarray, value: float, unknown: int) -> str:
    reasons = []
    if unknown:
        reasons.append(f"{unknown:,} labels of a class that training has not seen are left out")
    if len(y) == 0:
        reasons.append("no label yet")
    elif not np.isfinite(value):
        one = len(np.unique(y)) == 1 and question.contract.label.task != "regression"
        reasons.append(f"{question.metric} is undefined: {'all labels are of one class' if one else 'not finite'}")
    return "; ".join(reasons)


def _drift(question: Question, rows: pa.Table) -> dict[str, JsonValue]:
    current = profile_table(question.contract, rows)
    found: dict[str, JsonValue] = {}
    drifted: list[JsonValue] = []
    for name in question.contract.names:
        results = {key: test.compare(question.reference[name], current[name]) for key, test in question.tests}
        found[name] = {
            key: {field: value for field, value in asdict(result).items() if field != "test"}
            for key, result in results.items()
        }
        if any(result.drifted for result in results.values()):
            drifted.append(name)
    return {"drift": found, "drifted": drifted}
