"""Estimators of scikit-learn, kept as ONNX: linear models, forests, histogram boosting. No pickle anywhere."""

import inspect
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from raymlops.errors import DataError, EngineError, MissingExtra, SpecError
from raymlops.protocols import Fitted
from raymlops.train.preparation import Preparation, answering_graph
from raymlops.values import Examples, Float32, Task

__all__ = ["Sklearn"]

_Kind = Literal["linear", "random_forest", "extra_trees", "hist_gradient_boosting"]
_LENGTH: dict[str, tuple[str, int]] = {
    "random_forest": ("n_estimators", 100),
    "extra_trees": ("n_estimators", 100),
    "hist_gradient_boosting": ("max_iter", 100),
}
# A converted forest may differ from its estimator where a float32 value lies on a float64 threshold, and nowhere else.
_OFF, _MOST_OFF = 1e-4, 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Sklearn:
    """`estimator` and its own options, by scikit-learn's names (`c` is its `C`); what is not given is its default.

    `linear` is LogisticRegression, or Ridge for a number.
    """

    estimator: _Kind = "random_forest"
    n_estimators: int | None = None
    max_depth: int | None = None
    max_features: float | Literal["sqrt", "log2"] | None = None
    min_samples_leaf: int | None = None
    max_leaf_nodes: int | None = None
    learning_rate: float | None = None
    max_iter: int | None = None
    l2_regularization: float | None = None
    c: float | None = None
    alpha: float | None = None

    def fit(
        self,
        train: Examples,
        valid: Examples | None,
        *,
        categories: Sequence[int],
        task: Task,
        classes: int,
        seed: int,
        threads: int,
        kept: Path | None = None,
    ) -> Fitted:
        """Fit; `valid` is not used. Raise SpecError for an option that the estimator does not have.

        Raise EngineError if the ONNX graph answers the training rows otherwise than the estimator does.
        """
        found = np.unique(train.y.astype(np.int64)) if classes else np.array([], np.int64)
        if classes and len(found) < 2:
            raise DataError(f"train.trainers.sklearn: the rows have one class of {classes}; it takes two to learn from")
        preparation = Preparation.of(train.x, categories, apart=self.estimator == "linear")
        estimator = self._made(task, seed=seed, threads=threads)
        x = preparation.prepared(train.x)
        estimator.fit(x, found.searchsorted(train.y) if classes else train.y, sample_weight=train.weight)
        graph = answering_graph(
            preparation, _converted(estimator, x.shape[1], classes > 0), classes=found.tolist(), of=classes,
            binary=task == "binary",
        )  # fmt: skip
        _check(graph, train.x, estimator, x, found, classes, binary=task == "binary", threads=threads)
        params = json.loads(json.dumps({name: value for name, value in asdict(self).items() if value is not None}))
        return Fitted(format="onnx", files={"model.onnx": graph}, params=params)

    def gpus(self) -> float:
        """Return 0: it runs on the CPU."""
        return 0.0

    def code(self) -> str:
        """Return nothing: it runs no code of others."""
        return ""

    def shortened(self, share: float) -> "Sklearn":
        """Return the trainer with a share of the trees or rounds, one at least; SpecError for `linear`."""
        if self.estimator not in _LENGTH:
            raise SpecError(f"sklearn: {self.estimator} has no length to shorten; leave train.halving out")
        name, usual = _LENGTH[self.estimator]
        shorter: Any = {name: max(1, round((getattr(self, name) or usual) * share))}
        return replace(self, **shorter)

    def _made(self, task: Task, *, seed: int, threads: int) -> Any:
        from sklearn import ensemble, linear_model

        number = task == "regression"
        kind = {
            "linear": linear_model.Ridge if number else linear_model.LogisticRegression,
            "random_forest": ensemble.RandomForestRegressor if number else ensemble.RandomForestClassifier,
            "extra_trees": ensemble.ExtraTreesRegressor if number else ensemble.ExtraTreesClassifier,
            "hist_gradient_boosting": (
                ensemble.HistGradientBoostingRegressor if number else ensemble.HistGradientBoostingClassifier
            ),
        }[self.estimator]
        known = inspect.signature(kind).parameters
        given = {
            "C" if one.name == "c" else one.name: getattr(self, one.name)
            for one in fields(self)
            if one.name != "estimator" and getattr(self, one.name) is not None
        }
        wrong = [name for name in given if name not in known]
        if wrong:
            raise SpecError(f"sklearn: {kind.__name__} has no option {', '.join(wrong)}; take it out")
        fixed: dict[str, Any] = {"random_state": seed, "early_stopping": False}
        if "forest" in self.estimator or "trees" in self.estimator:
            fixed["n_jobs"] = threads
        return kind(**given, **{name: value for name, value in fixed.items() if name in known and name not in given})


def _converted(estimator: Any, width: int, is_classifier: bool) -> Any:
    try:
        from skl2onnx import convert_sklearn
        from skl2onnx.common.data_types import FloatTensorType
    except ImportError as error:
        raise MissingExtra(
            f"train.trainers.sklearn: needs skl2onnx: pip install raymlops[sklearn] ({error})"
        ) from error
    options = {"options": {id(estimator): {"zipmap": False}}} if is_classifier else {}
    return convert_sklearn(
        estimator,
        name="estimator",
        initial_types=[("prepared", FloatTensorType([None, width]))],
        target_opset={"": 20, "ai.onnx.ml": 3},
        **options,
    )


def _check(
    graph: bytes,
    rows: Float32,
    estimator: Any,
    x: Float32,
    found: Any,
    classes: int,
    *,
    binary: bool,
    threads: int,
) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    told = onnxruntime.InferenceSession(graph, options).run(["y"], {"x": rows})[0]
    if not classes:
        said = estimator.predict(x)
    else:
        said = np.zeros((len(x), classes))
        said[:, found] = estimator.predict_proba(x)
        said = said[:, 1] if binary else said
    off = np.abs(told - said) > _OFF * max(1.0, float(np.abs(said).max()))
    if not np.isfinite(told).all() or off.mean() > _MOST_OFF:
        raise EngineError(
            f"train.trainers.sklearn: the ONNX graph of {type(estimator).__name__} answers {off.mean():.1%} of the "
            "training rows otherwise than the estimator; take another estimator and report this one"
        )
