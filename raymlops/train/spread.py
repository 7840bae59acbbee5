"""One fit spread over workers: who holds which rows, and what each of them does. Knows nothing of Ray."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from raymlops.contract import Contract
from raymlops.data import Share, labels_and_shares, read_share
from raymlops.errors import SpecError
from raymlops.protocols import Fitted, Spreads, Trainer
from raymlops.spec import Spec
from raymlops.train.fit import Setting, fit_trial
from raymlops.train.sweep import Trial, trainer_of
from raymlops.train.weights import class_weights
from raymlops.values import Examples, Float64, Group

__all__ = ["Spread", "check_spreads", "fit_in_group", "no_rows", "spread_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Where the rows of a fit are, a share for each worker, and how much those of each class count."""

    spec: Spec
    contract: Contract
    shares: Sequence[Share]
    class_weights: Float64 | None

    def of(self, rank: int, setting: Setting) -> Setting:
        """Return the setting with the rows of a worker, weighted by what the classes are in the rows of all.

        Raise DataError where they cannot be read, or none of them keeps the contract.
        """
        rows = read_share(self.spec, self.shares[rank], contract=self.contract)
        if self.class_weights is not None:
            rows = replace(rows, weight=self.class_weights[rows.y.astype(np.int64)].astype(np.float32))
        return replace(setting, train=rows, class_weight=None)


def spread_of(spec: Spec, *, on: str, contract: Contract) -> Spread:
    """Spread the rows of a window over `train.workers`. Raise DataError for fewer rows than workers."""
    labels, shares = labels_and_shares(spec, on=on, contract=contract, count=spec.train.workers)
    weights = class_weights(spec.train.class_weight, contract.label, labels)
    return Spread(spec=spec, contract=contract, shares=shares, class_weights=weights)


def check_spreads(name: str, trainer: Trainer, workers: int) -> None:
    """Raise SpecError where more than one worker is asked for of a trainer whose fit cannot be spread."""
    if workers > 1 and not isinstance(trainer, Spreads):
        raise SpecError(
            f"train.workers: {workers} given, a fit of trainer {name!r} cannot be spread; leave it at 1, or take a "
            "trainer that can, as xgboost or pytorch"
        )


def no_rows(contract: Contract) -> Examples:
    """Return what stands for rows where workers read their own."""
    return Examples(x=np.empty((0, len(contract.features)), np.float32), y=np.empty(0))


def fit_in_group(trial: Trial, setting: Setting, group: Group) -> Fitted:
    """Make a fit together with the others of the group, each in a process of its own with its rows in the setting."""
    trainer = trainer_of(trial)
    check_spreads(trial.trainer, trainer, group.size)
    assert isinstance(trainer, Spreads)
    with trainer.joined(group):
        return fit_trial(trial, setting)[0]
