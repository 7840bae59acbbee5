"""The rows of a scored window, and what the model answered to them. Knows nothing of drift or metrics."""

import numpy as np
import pyarrow as pa

from raymlops.contract import Contract, answer_schema
from raymlops.data import ScoreManifest, match, read_answers, source, table
from raymlops.spec import Spec

__all__ = ["answered", "incoming"]


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


def _time(spec: Spec) -> tuple[str, ...]:
    return (spec.data.time,) if spec.data.time else ()


def _late_labels(spec: Spec, contract: Contract, rows: pa.Table) -> pa.Array:
    if not spec.data.key or any(name not in rows.column_names for name in spec.data.key):
        return pa.nulls(rows.num_rows)
    labels = table(spec, on=None, columns=[*spec.data.key, contract.label.name])
    where = match(rows, labels, by=spec.data.key)
    return labels.column(contract.label.name).take(pa.array(where, mask=where < 0))
