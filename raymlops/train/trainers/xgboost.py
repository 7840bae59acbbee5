"""Gradient-boosted trees by XGBoost's histogram method, on one machine."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from raymlops.protocols import Fitted
from raymlops.values import Examples, Task

__all__ = ["Xgboost"]

_OBJECTIVE = {"binary": "binary:logistic", "multiclass": "multi:softprob", "regression": "reg:squarederror"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Xgboost:
    """Options as in XGBoost's own documentation, with `rounds` the most trees and `patience` the early stop.

    `patience`: rounds without a better loss on the validation rows after which the fit stops; 0 never stops early.
    """

    rounds: int = 400
    learning_rate: float = 0.1
    max_depth: int = 6
    min_child_weight: float = 1.0
    subsample: float = 1.0
    colsample_bytree: float = 1.0
    reg_lambda: float = 1.0
    reg_alpha: float = 0.0
    gamma: float = 0.0
    max_bin: int = 256
    patience: int = 30

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
    ) -> Fitted:
        """Fit; the trees after the best round are cut off, so that every engine runs the same model."""
        import xgboost as xgb

        settings: dict[str, Any] = {
            "objective": _OBJECTIVE[task],
            "tree_method": "hist",
            "seed": seed,
            "nthread": threads,
            "verbosity": 0,
            "learning_rate": self.learning_rate,
            "max_depth": self.max_depth,
            "subsample": self.subsample,
            "min_child_weight": self.min_child_weight,
            "colsample_bytree": self.colsample_bytree,
            "gamma": self.gamma,
            "reg_lambda": self.reg_lambda,
            "reg_alpha": self.reg_alpha,
            "max_bin": self.max_bin,
        }
        if task == "multiclass":
            settings["num_class"] = classes
        stops = valid is not None and self.patience > 0
        booster = xgb.train(
            settings,
            xgb.DMatrix(train.x, train.y, weight=train.weight, nthread=threads),
            self.rounds,
            evals=[(xgb.DMatrix(valid.x, valid.y, nthread=threads), "valid")] if stops and valid else [],
            early_stopping_rounds=self.patience if stops else None,
            verbose_eval=False,
        )
        rounds = booster.best_iteration + 1 if stops else self.rounds
        kept = booster[:rounds]
        for attribute in ("best_iteration", "best_score"):
            kept.set_attr(**{attribute: None})
        return Fitted(
            format="xgboost",
            files={"model.ubj": bytes(kept.save_raw("ubj"))},
            params=json.loads(json.dumps({**asdict(self), "rounds": rounds, "patience": 0})),
        )

    def shortened(self, share: float) -> "Xgboost":
        """Return the trainer with a share of the rounds, one at least."""
        return replace(self, rounds=max(1, round(self.rounds * share)))
