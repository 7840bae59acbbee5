"""How much each class counts in a fit. Pure; knows nothing of trainers."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from raymlops.contract import Label
from raymlops.errors import SpecError
from raymlops.plugins import suggestion
from raymlops.values import Examples, Float64

__all__ = ["ClassWeight", "check_class_weight", "class_weights", "weighted"]

ClassWeight = str | Mapping[str, float]


def check_class_weight(given: ClassWeight | None, label: Label) -> None:
    """Raise SpecError for weights of a label without classes, and for classes that it does not have."""
    if given is None:
        return
    if not label.classes:
        raise SpecError(f"train.class_weight: given, but label {label.name!r} is a number and has no classes")
    unknown = [name for name in ([] if isinstance(given, str) else given) if name not in label.classes]
    if unknown:
        raise SpecError(
            *(
                f"train.class_weight: {name!r} is no class of {label.name!r}{suggestion(name, label.classes)}; "
                f"it has {', '.join(label.classes)}"
                for name in unknown
            )
        )


def class_weights(given: ClassWeight | None, label: Label, y: Float64) -> Float64 | None:
    """Return the weight of each class, [classes], whose mean over the rows with labels `y` [n] is 1; None for none.

    "balanced" lets every class count the same together (King and Zeng, 2001); a class that is not named has weight 1.
    Raise SpecError as `check_class_weight` does.
    """
    check_class_weight(given, label)
    if given is None:
        return None
    counts = np.bincount(y[np.isfinite(y)].astype(np.int64), minlength=len(label.classes))
    if isinstance(given, str):
        each = 1.0 / np.maximum(counts, 1)
    else:
        each = np.array([given.get(name, 1.0) for name in label.classes])
    return np.asarray(each * counts.sum() / (each * counts).sum())


def weighted(rows: Examples, given: ClassWeight | None, label: Label) -> Examples:
    """Return the rows with the weight of their class, times the one that they have, 1 in the mean."""
    each = class_weights(given, label, rows.y)
    if each is None:
        return rows
    weight = each[rows.y.astype(np.int64)] * (1.0 if rows.weight is None else rows.weight)
    return replace(rows, weight=(weight / weight.mean()).astype(np.float32))
