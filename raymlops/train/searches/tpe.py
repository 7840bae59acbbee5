"""Points where good ones lay before: the tree-structured Parzen estimator of Optuna (Bergstra and others, 2011).

Knows nothing of who computes them. Optuna's study is built anew from what was told whenever points are wanted, so
these depend on nothing else: not on the order in which trials ended, and not on a process that lived before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from raymlops.values import Coordinate, Dimension, Told

__all__ = ["Tpe"]

_STEPS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Tpe:
    """``startup`` points are random; ``candidates`` are drawn for each later one, of which the best is taken."""

    startup: Annotated[int, Field(ge=1)] = 10
    candidates: Annotated[int, Field(ge=1)] = 24
    multivariate: bool = False

    def looks_back(self) -> bool:
        """Return True."""
        return True

    def propose(
        self, space: Mapping[str, Dimension], told: Sequence[Told], *, start: int, count: int, seed: int
    ) -> Sequence[dict[str, Coordinate]]:
        """Return the points; those of one call know nothing of each other's outcome, only of each other's place."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=self.startup,
            n_ei_candidates=self.candidates,
            multivariate=self.multivariate,
            constant_liar=True,
            seed=(seed + start) % 2**32,
        )
        study = optuna.create_study(sampler=sampler)
        distributions = {name: _distribution(dimension) for name, dimension in sorted(space.items())}
        study.add_trials([_trial(one, distributions) for one in told])
        return [dict(study.ask(distributions).params) for _ in range(count)]


def _distribution(dimension: Dimension) -> Any:
    from optuna import distributions

    if dimension.size is None:
        return distributions.FloatDistribution(0.0, 1.0)
    if dimension.ordered:
        return distributions.IntDistribution(0, dimension.size - 1)
    return distributions.CategoricalDistribution(range(dimension.size))


def _trial(told: Told, distributions: Mapping[str, Any]) -> Any:
    from optuna.trial import TrialState, create_trial

    given: dict[str, Any] = {"params": told.point, "distributions": distributions}
    if told.loss is None:
        return create_trial(state=TrialState.FAIL, **given)
    if told.share < 1:
        steps = {int(told.share * _STEPS): told.loss}
        return create_trial(state=TrialState.PRUNED, intermediate_values=steps, **given)
    return create_trial(state=TrialState.COMPLETE, value=told.loss, **given)
