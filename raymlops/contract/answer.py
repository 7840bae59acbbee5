"""What a prediction is called and how it is typed, the same in a batch's columns and in an endpoint's tensors."""

import numpy as np
import pyarrow as pa

from raymlops.contract.contract import Label
from raymlops.values import Float32

__all__ = ["answer_schema", "answers", "name_problems"]

_ADDED = ("model_version", "run_id")


def answers(label: Label, y: Float32) -> dict[str, np.ndarray]:
    """Return the named answers of a predictor's output, one value a row each.

    Binary: `probability` of the second class. Multiclass: `prediction`, the most likely class as text, and
    `probability_CLASS` for each class. Regression: `prediction`.

    >>> answers(Label(name="y", task="binary", classes=("0", "1")), np.float32([0.25]))["probability"].tolist()
    [0.25]
    """
    if label.task == "binary":
        return {"probability": y}
    if label.task == "regression":
        return {"prediction": y}
    best = np.array(label.classes, dtype=object)[y.argmax(axis=1)] if len(y) else np.array([], dtype=object)
    return {"prediction": best, **{f"probability_{name}": y[:, i] for i, name in enumerate(label.classes)}}


def answer_schema(label: Label) -> list[tuple[str, pa.DataType]]:
    """Return the names and types of `answers`, in order."""
    if label.task == "multiclass":
        return [("prediction", pa.string()), *((f"probability_{name}", pa.float32()) for name in label.classes)]
    return [("probability" if label.task == "binary" else "prediction", pa.float32())]


def name_problems(label: Label, passed: dict[str, tuple[str, ...]]) -> list[str]:
    """Return a sentence for each column passed through that has the name of a column which scoring adds.

    `passed` gives for each place of the spec the columns it names.
    """
    added = [*(name for name, _ in answer_schema(label)), *_ADDED]
    return [
        f"{where}: column {name!r} has the name of a column that scoring adds ({', '.join(added)}); rename it"
        for where, names in passed.items()
        for name in names
        if name in added
    ]
