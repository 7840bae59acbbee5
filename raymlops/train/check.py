"""Check a spec before a machine is asked for: its data, its metric, its trials. Knows nothing of how trials run."""

from raymlops import data
from raymlops.contract import Contract
from raymlops.errors import DataError, SpecError
from raymlops.spec import Spec
from raymlops.train.metrics import metric_for
from raymlops.train.spread import check_spreads
from raymlops.train.sweep import first_batch, trainer_of
from raymlops.train.weights import check_class_weight

__all__ = ["check"]


def check(spec: Spec) -> Contract:
    """Return the contract of the training window; raise with everything that would fail later, before any of it runs.

    SpecError if the spec has a fault of its own, such as a metric without meaning for the label, else DataError.
    """
    problems: list[str] = []
    data_problems: list[str] = []
    try:
        for trial in first_batch(spec.train):
            trainer = trainer_of(trial)
            trainer.code()
            check_spreads(trial.trainer, trainer, spec.train.workers)
    except SpecError as error:
        problems += error.problems
    try:
        contract = data.check(spec)
        metric_for(contract.label.task, spec.train.metric)
        check_class_weight(spec.train.class_weight, contract.label)
    except SpecError as error:
        problems += error.problems
    except DataError as error:
        data_problems += error.problems
    if problems:
        raise SpecError(*problems, *data_problems)
    if data_problems:
        raise DataError(*data_problems)
    return contract
