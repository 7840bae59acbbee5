"""Check a spec against its data before a machine is asked for: every problem at once."""

import numpy as np
import pyarrow as pa

from raymlops.contract import Contract, encode, encode_label, name_problems, schema_problems
from raymlops.data.rows import infer_contract, prepare, table
from raymlops.errors import DataError, RaymlopsError
from raymlops.plugins import build
from raymlops.protocols import Source
from raymlops.spec import Spec, speaks_of_period
from raymlops.values import Float64

__all__ = ["check", "leaks"]

_ROWS = 50_000
_FEWEST = 200
_FEWEST_OF_A_CLASS = 20
_LEAK_AUC = 0.999


def check(spec: Spec) -> Contract:
    """Return the contract of the training window; raise DataError with everything that would fail later."""
    prepare(spec)
    contract = infer_contract(spec, on=spec.train.on)
    problems = leaks(spec, contract)
    # A period may well be without rows yet.
    scored = [spec.score.on] if spec.score.on in spec.data.windows else []
    for window in dict.fromkeys([spec.train.validate_on, *scored]):
        try:
            rows = table(spec, on=window, columns=[spec.data.label])
            if window == spec.train.validate_on:
                problems += _label_problems(contract, rows.column(spec.data.label), window)
        except DataError as error:
            problems += error.problems
    problems += name_problems(contract.label, {"data.key": spec.data.key, "score.keep": spec.score.keep})
    problems += _score_source_problems(spec, contract)
    if problems:
        raise DataError(*problems)
    return contract


def _label_problems(contract: Contract, column: pa.ChunkedArray, window: str) -> list[str]:
    try:
        y = encode_label(contract.label, column)
    except DataError as error:
        return [f"data.windows.{window}: {problem}" for problem in error.problems]
    return [] if np.isfinite(y).any() else [f"data.windows.{window}: no row has a label to judge a model by"]


def leaks(spec: Spec, contract: Contract) -> list[str]:
    """Return a sentence for each feature that alone predicts the label almost without error.

    Such a feature is usually known only after what it should predict. For classes: the area under the ROC curve
    of the feature's values, or of its missing values, is at least 0.999 for one class; for numbers: the rank
    correlation with the label is. Rows are a spread sample of at most 50,000; below 200 nothing is said, nor of a
    class that fewer than 20 rows have or lack: so few rows part by chance.
    """
    labels = table(spec, on=spec.train.on, columns=[contract.label.name])
    y = encode_label(contract.label, labels.column(0))
    known = np.flatnonzero(np.isfinite(y))
    if len(known) < _FEWEST:
        return []
    sample = known[np.unique(np.linspace(0, len(known) - 1, _ROWS).astype(np.int64))]
    rows, y = table(spec, on=spec.train.on, columns=contract.names, at=sample), y[sample]
    x = encode(contract, {name: rows.column(name) for name in contract.names}).x.astype(np.float64)
    found = []
    for index, name in enumerate(contract.names):
        strength = _correlation(x[:, index], y) if contract.label.task == "regression" else _parted(x[:, index], y)
        if strength >= _LEAK_AUC and name not in spec.data.trusted:
            found.append(
                f"data.features: {name!r} alone predicts the label {contract.label.name!r} ({strength:.4f} of 1): is "
                "it known only afterwards? Put it in data.exclude, or in data.trusted if it is honest"
            )
    return found


def _correlation(values: Float64, y: Float64) -> float:
    from scipy.stats import rankdata

    present = np.isfinite(values)
    if present.sum() < _FEWEST or len(np.unique(values[present])) < 2 or len(np.unique(y[present])) < 2:
        return 0.0
    return abs(float(np.corrcoef(rankdata(values[present]), rankdata(y[present]))[0, 1]))


def _parted(values: Float64, y: Float64) -> float:
    """Return how well the values part the class that they part best from all others."""
    from scipy.stats import rankdata

    present = np.isfinite(values)
    sides = [rankdata(np.where(present, values, far)) for far in (np.inf, -np.inf)]
    classes, rows = np.unique(y, return_counts=True)
    told = classes[np.minimum(rows, len(y) - rows) >= _FEWEST_OF_A_CLASS]
    return max((_auc(side, (y == one).astype(np.float64)) for one in told for side in sides), default=0.0)


def _auc(ranks: Float64, target: Float64) -> float:
    """Return max(AUC, 1 - AUC) from ranks, Hanley and McNeil 1982: the Mann-Whitney U over its largest value."""
    ones = float(target.sum())
    zeros = len(target) - ones
    auc = (ranks[target == 1].sum() - ones * (ones + 1) / 2) / (ones * zeros)
    return float(max(auc, 1 - auc))


def _score_source_problems(spec: Spec, contract: Contract) -> list[str]:
    if spec.score.source is None or speaks_of_period(spec.score.source):
        return []
    other = build("raymlops.data.sources", spec.score.source, where="score.source")
    assert isinstance(other, Source)
    try:
        schema = other.schema()
    except RaymlopsError as error:
        return [f"score.source: {problem}" for problem in error.problems]
    absent = [
        f"score.keep: column {name!r} is not in score.source" for name in spec.score.keep if name not in schema.names
    ]
    return [f"score.source: {problem}" for problem in schema_problems(contract, schema)] + absent
