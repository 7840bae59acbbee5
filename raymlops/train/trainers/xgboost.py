"""Gradient-boosted trees by XGBoost's histogram method, of the rows of one process or of several."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from raymlops.engine import cuda
from raymlops.protocols import Fitted
from raymlops.values import Examples, Group, Task

__all__ = ["Xgboost"]

_SHARE_OF_MORE = 10  # of the rounds that `proceed` adds
_WAIT_S = 1800  # for another process that is alive: one that died is noticed at once
_HEAD_START_S = 0.1  # of rank 0, so that it listens when the others come
_OBJECTIVE = {"binary": "binary:logistic", "multiclass": "multi:softprob", "regression": "reg:squarederror"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Xgboost:
    """Options as in XGBoost's own documentation, with `rounds` the most trees and `patience` the early stop.

    `categorical`: split categories into sets of values, not at an index; such trees run natively alone.
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
    categorical: bool = False
    device: Literal["cpu", "cuda"] = "cpu"
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
        kept: Path | None = None,
    ) -> Fitted:
        """Fit; the trees after the best round are cut off, so that every engine runs the same model."""
        import xgboost as xgb

        settings, kinds = self._settings(categories, task=task, classes=classes, seed=seed, threads=threads)
        stops = valid is not None and self.patience > 0
        booster = xgb.train(
            settings,
            _matrix(train, kinds, threads),
            self.rounds,
            evals=[(_matrix(valid, kinds, threads), "valid")] if stops and valid else [],
            early_stopping_rounds=self.patience if stops else None,
            verbose_eval=False,
        )
        rounds = booster.best_iteration + 1 if stops else self.rounds
        best = booster[:rounds]
        for attribute in ("best_iteration", "best_score"):
            best.set_attr(**{attribute: None})
        return Fitted(
            format="xgboost",
            files={"model.ubj": bytes(best.save_raw("ubj"))},
            params=json.loads(json.dumps({**asdict(self), "rounds": rounds, "patience": 0})),
        )

    def proceed(
        self,
        start: Path,
        train: Examples,
        *,
        categories: Sequence[int],
        task: Task,
        classes: int,
        seed: int,
        threads: int,
    ) -> Fitted:
        """Add a tenth of the trees, one round at least."""
        import xgboost as xgb

        settings, kinds = self._settings(categories, task=task, classes=classes, seed=seed, threads=threads)
        before = xgb.Booster(model_file=bytearray((start / "model.ubj").read_bytes()))
        more = max(1, round(self.rounds / _SHARE_OF_MORE))
        booster = xgb.train(settings, _matrix(train, kinds, threads), more, xgb_model=before, verbose_eval=False)
        params = json.loads(json.dumps({**asdict(self), "rounds": booster.num_boosted_rounds(), "patience": 0}))
        return Fitted(format="xgboost", files={"model.ubj": bytes(booster.save_raw("ubj"))}, params=params)

    @contextmanager
    def joined(self, group: Group) -> Iterator[None]:
        """Join XGBoost's collective: histograms and losses are then those of all processes' rows."""
        from xgboost import collective
        from xgboost.tracker import RabitTracker

        tracker = None
        if group.rank == 0:
            tracker = RabitTracker(group.size, host_ip=group.host, port=group.port, sortby="task", timeout=_WAIT_S)
            tracker.start()
        else:
            time.sleep(_HEAD_START_S)
        joining = collective.CommunicatorContext(  # which also finds NCCL
            dmlc_communicator="rabit",
            dmlc_tracker_uri=group.host,
            dmlc_tracker_port=group.port,
            dmlc_task_id=f"{group.rank:09}",
            dmlc_timeout=_WAIT_S,
        )
        collective.init(**joining.args)
        yield
        collective.finalize()
        if tracker is not None:
            tracker.wait_for(_WAIT_S)
            tracker.free()

    def gpus(self) -> float:
        """Return 1 on "cuda", else 0."""
        return 1.0 if self.device == "cuda" else 0.0

    def code(self) -> str:
        """Return nothing: it runs no code of others."""
        return ""

    def _settings(
        self, categories: Sequence[int], *, task: Task, classes: int, seed: int, threads: int
    ) -> tuple[dict[str, Any], list[str] | None]:
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
        if self.device == "cuda":
            cuda.require("train.trainers.xgboost.device")
            settings["device"] = "cuda"
        kinds = ["c" if count else "float" for count in categories] if self.categorical else None
        if task == "multiclass":
            settings["num_class"] = classes
        return settings, kinds

    def shortened(self, share: float) -> "Xgboost":
        """Return the trainer with a share of the rounds, one at least."""
        return replace(self, rounds=max(1, round(self.rounds * share)))


def _matrix(rows: Examples, kinds: list[str] | None, threads: int) -> Any:
    import xgboost as xgb

    return xgb.DMatrix(
        rows.x,
        rows.y,
        weight=rows.weight,
        nthread=threads,
        feature_types=kinds,
        enable_categorical=kinds is not None,
    )
