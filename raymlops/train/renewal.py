"""Make a model of an older version and newer rows: fitted again with weights, continued, or joined with others.

What is made must prove itself on rows that it has not seen; else nothing of it stays. Knows nothing of Ray.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import orjson

from raymlops.contract import Contract
from raymlops.data import examples, examples_in_folds, examples_in_order, read_contract
from raymlops.engine import load_format
from raymlops.errors import DataError, SpecError
from raymlops.plugins import build
from raymlops.protocols import Continues, Fitted, Trainer
from raymlops.spec import FoldsSpec, Spec
from raymlops.stats import Interval, difference
from raymlops.train.ensemble import joined_graph, member_weights
from raymlops.train.fit import Setting, answers_of, fit, write_model
from raymlops.train.register import ENSEMBLE
from raymlops.train.shift import effective_share, importance
from raymlops.train.sweep import Trial
from raymlops.train.weights import weighted
from raymlops.values import Examples, Float32, JsonValue, Renewal, Version

__all__ = ["Order", "Renewed", "renewed"]

_BLOCKS = 5  # that rows are continued in; the last one only judges
_LEAST_SHARE = 0.05  # of effective rows, below which weights mean that hardly any row of then looks like now


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is asked for: ``versions``, the older ones, of which "join" takes all and the others the first.

    ``on`` is the window that is learned from, ``validate`` the one whose rows judge.
    """

    spec: Spec
    how: Renewal
    versions: tuple[Version, ...]
    on: str
    validate: str
    metric: str
    contract: Contract

    @property
    def seed(self) -> int:
        """The seed of the version that is renewed."""
        return int(_model(self.versions[0]).get("seed", 0))

    @property
    def trainer(self) -> str:
        """The trainer of the version that is renewed."""
        return ENSEMBLE if self.how == "join" else str(_model(self.versions[0])["trainer"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewed:
    """What came of it. ``gain``: by how much it is better than what would be there without, 95 % interval.

    ``kept`` is false where it is not better: then ``fitted`` is the plain model, or None if there is no such one.
    ``told``: what else is known, as plain values.
    """

    fitted: Fitted | None
    kept: bool
    gain: Interval
    told: dict[str, JsonValue]


def renewed(order: Order) -> Renewed:
    """Carry an order out. Raise SpecError for a version that cannot be renewed so, DataError for too few rows."""
    made: Mapping[Renewal, Callable[[Order], Renewed]] = {"adapt": _adapted, "continue": _continued, "join": _joined}
    return made[order.how](order)


def _adapted(order: Order) -> Renewed:
    """Fit to rows that are weighted to look like half of `validate`; the other half judges, against a plain fit."""
    trainer, trial = _trainer(order), _trial(order)
    rows = examples(order.spec, on=order.on, contract=order.contract)
    setting = _setting(order, rows)
    now, held = _halves(order)
    weight = importance(
        rows.x, now.x, categories=order.contract.category_counts, seed=order.seed, threads=setting.threads
    )
    share = effective_share(weight)
    plain, adapted = (fit(trainer, one, None, setting, seed=order.seed) for one in (rows, replace(rows, weight=weight)))
    told_plain, told_adapted = (_answers(one, trial, setting, held) for one in (plain, adapted))
    gain = difference(order.metric, held.y, told_adapted, told_plain)
    kept = share >= _LEAST_SHARE and gain.low > 0
    return Renewed(fitted=adapted if kept else plain, kept=kept, gain=gain, told={"effective_share": round(share, 6)})


def _continued(order: Order) -> Renewed:
    """Judge, then learn, block after block (prequential; Gama and others, 2013); the newest block only judges."""
    trainer, trial = _trainer(order), _trial(order)
    if not isinstance(trainer, Continues):
        raise SpecError(f"{order.versions[0]}: trainer {order.trainer} cannot go on from a model; use --how again")
    rows = examples_in_order(order.spec, on=order.on, contract=order.contract)
    if len(rows.y) < 2 * _BLOCKS:
        raise DataError(f"data.windows.{order.on}: {len(rows.y)} rows, at least {2 * _BLOCKS} are needed to go on")
    setting = _setting(order, rows)
    blocks = [_taken(rows, part) for part in np.array_split(np.arange(len(rows.y)), _BLOCKS)]
    label, start, told = order.contract.label, order.versions[0].path, []
    with TemporaryDirectory(prefix="continued-") as name:
        present, fitted = start, None
        for number, block in enumerate(blocks[:-1]):
            gained = _gain(order, setting, block, present, start)
            told.append({"rows": len(block.y), "gain": round(gained.value, 6)})
            fitted = trainer.proceed(
                present,
                weighted(block, setting.class_weight, label),
                categories=order.contract.category_counts,
                task=label.task,
                classes=len(label.classes),
                seed=order.seed,
                threads=setting.threads,
            )
            present = Path(name) / str(number)
            write_model(present, fitted, trial, order.contract)
        gain = _gain(order, setting, blocks[-1], present, start)
    kept = gain.value >= 0
    return Renewed(fitted=fitted if kept else None, kept=kept, gain=gain, told={"blocks": told})  # type: ignore[dict-item]


def _joined(order: Order) -> Renewed:
    """Weigh the members by the rows of `on`; those of `validate` judge, against the member that `on` bears out best."""
    if len(order.versions) < 2:
        raise SpecError(f"--how join: {len(order.versions)} version given, at least 2 are needed; add --member NAME@V")
    for version in order.versions:
        _check_alike(version, order.contract, order.versions[0])
    kinds = [load_format(version.path) for version in order.versions]
    threads = order.spec.train.cpus_per_trial
    predictors = [kind.load(version.path, threads=threads) for kind, version in zip(kinds, order.versions, strict=True)]
    recent = examples(order.spec, on=order.on, contract=order.contract)
    held = examples(order.spec, on=order.validate, contract=order.contract)
    label = order.contract.label
    seen = [one.predict(recent.x) for one in predictors]
    weights = member_weights(seen, recent.y, label.task)
    best = int(np.argmax([difference(order.metric, recent.y, one, seen[0]).value for one in seen]))
    used = [index for index, weight in enumerate(weights) if weight]
    graph = joined_graph(
        [kinds[index].to_onnx(order.versions[index].path) for index in used], [float(weights[index]) for index in used]
    )
    params: dict[str, JsonValue] = {"members": [order.versions[index].digest for index in used],
                                    "weights": [float(weights[index]) for index in used]}  # fmt: skip
    fitted = Fitted(format="onnx", files={"model.onnx": graph}, params=params)
    answers = _answers(fitted, _trial(order), _setting(order, recent), held)
    gain = difference(order.metric, held.y, answers, predictors[best].predict(held.x))
    told: dict[str, JsonValue] = {
        "weights": {str(version): float(weight) for version, weight in zip(order.versions, weights, strict=True)},
        "best_member": str(order.versions[best]),
    }
    kept = len(used) > 1 and gain.low > 0
    return Renewed(fitted=fitted if kept else None, kept=kept, gain=gain, told=told)


def _check_alike(version: Version, contract: Contract, first: Version) -> None:
    mine = read_contract(version.path)
    for what, one, other in (
        ("features", mine.names, contract.names),
        ("label", mine.label, contract.label),
        *((f"categories of {a.name}", a.categories, b.categories)
          for a, b in zip(mine.features, contract.features, strict=False)),
    ):  # fmt: skip
        if one != other:
            raise SpecError(f"--how join: {version} and {first} differ in their {what}: {one} and {other}")


def _trainer(order: Order) -> Trainer:
    version = order.versions[0]
    if order.trainer == ENSEMBLE:
        raise SpecError(f"{version}: joins others and was not fitted; name one of its members")
    made: Trainer = build("raymlops.train.trainers", {order.trainer: _model(version)["params"]}, where=str(version))
    return made


def _trial(order: Order) -> Trial:
    options: dict[str, JsonValue] = {} if order.how == "join" else _model(order.versions[0])["params"]
    return Trial(index=0, trainer=order.trainer, options=options, seed=order.seed, point={})


def _setting(order: Order, rows: Examples) -> Setting:
    return Setting(
        train=rows,
        valid=rows,
        contract=order.contract,
        sweep=Path(),
        threads=order.spec.train.cpus_per_trial,
        stop_early=False,
        class_weight=order.spec.train.class_weight,
    )


def _halves(order: Order) -> tuple[Examples, Examples]:
    """Return the rows of `validate` in two halves, by the hash of their key."""
    halved = order.spec.train.model_copy(update={"folds": FoldsSpec(count=2)})
    rows, folds = examples_in_folds(
        order.spec.model_copy(update={"train": halved}), on=order.validate, contract=order.contract
    )
    return _taken(rows, folds[0].fit), _taken(rows, folds[0].judge)


def _taken(rows: Examples, at: np.ndarray[Any, np.dtype[np.int64]]) -> Examples:
    return Examples(x=np.ascontiguousarray(rows.x[at]), y=rows.y[at])


def _answers(fitted: Fitted, trial: Trial, setting: Setting, rows: Examples) -> Float32:
    with TemporaryDirectory(prefix="renewed-") as name:
        write_model(Path(name), fitted, trial, setting.contract)
        return answers_of(Path(name), rows, threads=setting.threads)


def _gain(order: Order, setting: Setting, rows: Examples, new: Path, old: Path) -> Interval:
    told = [answers_of(folder, rows, threads=setting.threads) for folder in (new, old)]
    return difference(order.metric, rows.y, *told)


def _model(version: Version) -> dict[str, Any]:
    made: dict[str, Any] = orjson.loads((version.path / "model.json").read_bytes())
    return made
