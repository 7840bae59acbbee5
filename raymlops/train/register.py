"""Make versions of a sweep's best trials, and write down what it came to. Knows nothing of how trials run."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from raymlops import registry
from raymlops.codec import code_digest, digest, dumps, write_aside
from raymlops.contract import Contract, profile_parts
from raymlops.data import parts, table
from raymlops.errors import Forbidden
from raymlops.plugins import build, source_digest
from raymlops.protocols import Trainer
from raymlops.spec import Spec, home
from raymlops.telemetry import say
from raymlops.train.evaluate import evaluated
from raymlops.train.sweep import Result, Trial, best_of_each, first_batch, trainer_of
from raymlops.train.trial import trial_folder
from raymlops.values import JsonValue, Version

__all__ = ["ENSEMBLE", "Sweep", "record", "reference_files", "register_best", "register_one", "version_files"]

_ASYNCHRONOUS = "; the sweep is asynchronous and does not repeat: another run may try other trials and find another one"
ENSEMBLE = "ensemble"  # what stands for a trainer in a version that joins others
_CODE = ("contract", "data", "engine", "spec", "train", "values.py")


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """What is swept: rows, windows, metric, and, in place of a search, the one trial that is fitted ``alone``.

    ``data`` is a digest of what it learns from, ``manifest`` says what that is, ``origin`` where it is made.
    """

    spec: Spec
    contract: Contract
    on: str
    validate: str
    metric: str
    data: str
    manifest: JsonValue
    origin: registry.Origin
    alone: Trial | None = None

    @cached_property
    def id(self) -> str:
        """What decides about every byte of every trial."""
        train = self.spec.train.model_dump(mode="json")
        trainers = [self.alone.trainer] if self.alone else list(self.spec.train.trainers)
        return digest(
            [
                self.spec.name,
                asdict(self.alone) if self.alone else train,
                self.contract.to_json(),
                self.spec.data.model_dump(mode="json"),
                self.on,
                self.validate,
                self.metric,
                self.data,
                self.spec.train.cpus_per_trial,
                self.spec.train.workers,
                code_digest(*_CODE),
                [source_digest("raymlops.train.trainers", name) for name in trainers if name != ENSEMBLE],
                sorted(self.code),
                registry.packages(),
            ]
        )

    @property
    def gpus(self) -> float:
        """The share of a GPU that one of its trials needs."""
        return max((trainer.gpus() for trainer in self._trainers), default=0.0)

    @property
    def code(self) -> set[str]:
        """Digests of the user's code that its trials run."""
        return {trainer.code() for trainer in self._trainers} - {""}

    @cached_property
    def _trainers(self) -> list[Trainer]:
        trials = [self.alone] if self.alone else first_batch(self.spec.train)
        return [trainer_of(trial) for trial in trials if trial.trainer != ENSEMBLE]

    @property
    def asynchronous(self) -> bool:
        """Whether which trials were tried depends on how fast each of them was."""
        halving = self.spec.train.halving
        return self.alone is None and halving is not None and halving.asynchronous

    @property
    def folder(self) -> Path:
        """Where its trials lie."""
        return home() / "sweeps" / self.id[:16]

    def tracker(self) -> registry.Tracker:
        """Return where its runs are recorded."""
        return registry.Tracker(name=self.spec.name, sweep=self.id[:16], tags={"raymlops.model": self.spec.name})


def record(tracker: registry.Tracker, result: Result) -> None:
    """Let MLflow know how a trial ended, or a rung of it."""
    values = {**result.metrics, **_of_folds(result), "seconds": result.seconds} if result.metrics else {}
    tags = {"raymlops.share": f"{result.share:g}"} | ({"raymlops.cause": result.cause} if result.cause else {})
    tracker.record(
        registry.Run(
            key=_key(result),
            name=f"{result.trainer} {_key(result)}",
            params={"trainer": result.trainer, "seed": result.seed, **result.params},
            metrics=values,
            tags=tags,
        )
    )


def _of_folds(result: Result) -> dict[str, float]:
    """Return the mean and the standard deviation of each metric over the folds."""
    found: dict[str, float] = {}
    for name in result.folds[0] if result.folds else ():
        values = [fold[name] for fold in result.folds if name in fold]
        found |= {f"folds_{name}": float(np.mean(values)), f"folds_{name}_sd": float(np.std(values))}
    return found


def _key(result: Result) -> str:
    return f"{result.index}-{result.rung}" if result.rung else str(result.index)


def register_best(
    sweep: Sweep, results: Sequence[Result], winner: Result, tracker: registry.Tracker, *, verdict: str
) -> dict[str, JsonValue]:
    """Register the best trial of each trainer, and make the best of all the champion unless it was fitted alone.

    ``verdict`` says whether the winner came out again, nothing where that was not tried.
    """
    promote, is_champion, runs = sweep.alone is None, False, tracker.settle()
    # The winner is registered last, so that the highest number of a sweep is its best model.
    finalists = sorted(best_of_each(results, sweep.metric).values(), key=lambda result: result.index == winner.index)
    reference = reference_files(sweep)
    versions = {result.index: _registered(sweep, result, reference, runs) for result in finalists}
    champion = versions[winner.index]
    value = winner.metrics[sweep.metric]
    if promote:
        registry.tag_finalists(sweep.spec.name, {result.trainer: versions[result.index] for result in finalists})
        shown: dict[str, JsonValue] = {"sweep": sweep.id[:16], "metric": sweep.metric, "value": value}
        is_champion = _promoted(champion, sweep.metric, shown)
    tracker.close(metric=sweep.metric, value=value, winner=winner.index)
    evidence = sweep.folder / "sweep.json"
    summary: dict[str, Any] = {
        "sweep": sweep.id[:16],
        "model": str(champion),
        "metric": sweep.metric,
        "value": value,
        "on": sweep.on,
        "validate": sweep.validate,
        "winner": winner.index,
        "repeats": verdict,
        "trials": [asdict(result) for result in results],
        "periods": [
            {"period": period, "rows": values["rows"], "metric": values.get(sweep.metric)}
            for period, values in orjson.loads((champion.path / "evaluation.json").read_bytes())["periods"].items()
        ],
        "versions": {str(v): results[i].trainer for i, v in versions.items()},
        "outputs": [str(evidence), str(champion.path)],
    }
    write_aside(evidence, dumps(summary, indent=True))
    if verdict:
        say(f"train: fitted again, the winner is {verdict}{_ASYNCHRONOUS * sweep.asynchronous}")
    what = "champion" if is_champion else "best of the sweep" if promote else "version made"
    say(
        f"train: {champion} is the {what}, {winner.trainer} of trial "
        f"{winner.index}, {sweep.metric} {value:.4f} on {sweep.validate!r}"
        + (f", {winner.judged(sweep.metric):.4f} in {len(winner.folds)} folds" if winner.folds else "")
    )
    return summary


def register_one(
    sweep: Sweep,
    result: Result,
    reference: Mapping[str, bytes],
    *,
    more: Mapping[str, JsonValue],
    tags: Mapping[str, str],
) -> Version:
    """Record the one trial of a sweep in MLflow and register its model; ``more`` stands in its lineage."""
    tracker = sweep.tracker()
    record(tracker, result)
    made = _registered(sweep, result, reference, tracker.settle(), more=more, tags=tags)
    tracker.close(metric=sweep.metric, value=result.metrics[sweep.metric], winner=result.index)
    return made


def _registered(
    sweep: Sweep,
    result: Result,
    reference: Mapping[str, bytes],
    runs: Mapping[str, str],
    *,
    more: Mapping[str, JsonValue] | None = None,
    tags: Mapping[str, str] | None = None,
) -> Version:
    digest, path = registry.store_folder(version_files(sweep, result, reference, more=more))
    usual = {
        "trainer": result.trainer,
        "sweep": sweep.id[:16],
        "fitted_on": sweep.on,
        "commit": sweep.origin.commit or "",
        "origin": registry.keep_origin(sweep.origin),
    }
    return registry.register(
        sweep.spec.name, digest=digest, path=path, run_id=runs[_key(result)], tags={**usual, **(tags or {})}
    )


def _promoted(best: Version, metric: str, evidence: Mapping[str, JsonValue]) -> bool:
    try:
        registry.promote(str(best), why=f"best of its sweep by {metric}", evidence=evidence)
    except Forbidden as error:  # who sweeps need not be who approves
        say(f"train: {best} is not the champion yet: {error}")
        return False
    return True


def reference_files(sweep: Sweep) -> dict[str, bytes]:
    """Return contract and profile of the rows that are fitted on."""
    rows = parts(sweep.spec, on=sweep.on, columns=sweep.contract.names)
    profile = {name: column.to_json() for name, column in profile_parts(sweep.contract, rows).items()}
    return {"contract.json": dumps(sweep.contract.to_json(), indent=True), "profile.json": dumps(profile)}


def _users_code(result: Result) -> dict[str, JsonValue]:
    if result.trainer == ENSEMBLE:
        return {}
    found = build("raymlops.train.trainers", {result.trainer: result.params}, where="trainer").code()
    return {"users_code": found} if found else {}


def version_files(
    sweep: Sweep, result: Result, reference: Mapping[str, bytes], *, more: Mapping[str, JsonValue] | None = None
) -> dict[str, bytes]:
    """Return the files of the version that a trial becomes; ``more`` is what its lineage says beside the usual."""
    folder = trial_folder(sweep.folder, result.index, result.rung)
    made = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "result.json"}
    windows = [on for on in (sweep.on, sweep.validate) if on in sweep.spec.data.windows]
    counts = {on: table(sweep.spec, on=on, columns=[sweep.contract.label.name]).num_rows for on in windows}
    found = evaluated(sweep.spec, sweep.contract, folder, on=sweep.validate, metric=sweep.metric)
    evaluation = {
        "metric": sweep.metric,
        "value": result.metrics[sweep.metric],
        "on": sweep.validate,
        "rows": counts[sweep.validate],
        "metrics": result.metrics,
        **({"folds": list(result.folds)} if result.folds else {}),
        **found,
    }
    code = _users_code(result)
    origin = registry.lineage(
        sweep.spec, data=sweep.data, manifest=sweep.manifest, rows=counts, sweep=sweep.id[:16], trial=result.index
    )
    return {
        **made,
        **reference,
        "evaluation.json": dumps(evaluation, indent=True),
        "lineage.json": dumps({**origin, "fitted_on": sweep.on, **code, **(more or {})}, indent=True),
    }
