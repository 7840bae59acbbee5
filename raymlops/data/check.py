"""Check a spec against its data before a machine is asked for: every problem at once."""

import numpy as np
import pyarrow.compute as pc

from raymlops.contract import Contract, encode, encode_label, schema_problems
from raymlops.data.rows import infer_contract, prepare, table
from raymlops.errors import DataError, RaymlopsError
from raymlops.plugins import build
from raymlops.protocols import Source
from raymlops.spec import Spec
from raymlops.values import Float64

__all__ = ["check", "leaks"]

_ROWS = 50_000
_FEWEST = 200
_LEAK_AUC = 0.999


def check(spec: Spec) -> Contract:
    """Return the contract of the training window; raise DataError with everything that would fail later."""
    prepare(spec)
    contract = infer_contract(spec, on=spec.train.on)
    problems = leaks(spec, contract)
    for window in dict.fromkeys([spec.train.validate_on, *([spec.score.on] if spec.score.on else [])]):
        try:
            table(spec, on=window, columns=[spec.data.label])
        except DataError as error:
            problems += error.problems
    problems += _score_source_problems(spec, contract)
    if problems:
        raise DataError(*problems)
    return contract


def leaks(spec: Spec, contract: Contract) -> list[str]:
    """Return a sentence for each feature that alone predicts the label almost without error.

    Such a feature is usually known only after what it should predict. For classes: the area under the ROC curve
    of the feature's values, or of its missing values, is at least 0.999 for one class; for numbers: the rank
    correlation with the label is. Rows are a spread sample of at most 50,000; below 200 nothing is said.
    """
    rows = table(spec, on=spec.train.on, columns=[*contract.names, contract.label.name])
    rows = rows.filter(pc.is_valid(rows.column(contract.label.name)))
    if rows.num_rows < _FEWEST:
        return []
    rows = rows.take(np.unique(np.linspace(0, rows.num_rows - 1, _ROWS).astype(np.int64)))
    x = encode(contract, {name: rows.column(name) for name in contract.names}).x.astype(np.float64)
    y = encode_label(contract.label, rows.column(contract.label.name))
    targets = [y] if contract.label.task == "regression" else [(y == c).astype(float) for c in np.unique(y)]
    found = []
    for index, name in enumerate(contract.names):
        strength = max(_strength(x[:, index], target) for target in targets)
        if strength >= _LEAK_AUC and name not in spec.data.trusted:
            found.append(
                f"data.features: {name!r} alone predicts the label {contract.label.name!r} ({strength:.4f} of 1): is "
                "it known only afterwards? Put it in data.exclude, or in data.trusted if it is honest"
            )
    return found


def _strength(values: Float64, target: Float64) -> float:
    from scipy.stats import rankdata

    present = np.isfinite(values)
    if len(np.unique(target)) < 2:
        return 0.0
    if len(np.unique(target)) > 2:
        if present.sum() < _FEWEST or len(np.unique(values[present])) < 2 or len(np.unique(target[present])) < 2:
            return 0.0
        return abs(float(np.corrcoef(rankdata(values[present]), rankdata(target[present]))[0, 1]))
    sides = [np.where(present, values, np.inf), np.where(present, values, -np.inf)]
    return max(_auc(rankdata(side), target) for side in sides)


def _auc(ranks: Float64, target: Float64) -> float:
    """Return max(AUC, 1 - AUC) from ranks, Hanley and McNeil 1982: the Mann-Whitney U over its largest value."""
    ones = float(target.sum())
    zeros = len(target) - ones
    auc = (ranks[target == 1].sum() - ones * (ones + 1) / 2) / (ones * zeros)
    return float(max(auc, 1 - auc))


def _score_source_problems(spec: Spec, contract: Contract) -> list[str]:
    if spec.score.source is None:
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
