"""The train stage: contract, sweep, judgement, registration. Knows nothing of Ray, and of MLflow only the registry."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from raymlops import registry
from raymlops.codec import code_digest, digest, dumps, write_aside
from raymlops.contract import Contract, profile_table
from raymlops.data import data_fingerprint, examples, examples_by_period, infer_contract, prepare, table
from raymlops.engine import load_format
from raymlops.errors import SpecError, StageFailed
from raymlops.spec import Spec, home
from raymlops.telemetry import progress, say
from raymlops.train.check import check
from raymlops.train.metrics import all_metrics, metric_for
from raymlops.train.sweep import Result, Trial, best, best_of_each, trials
from raymlops.train.trial import Setting, read_result, trial_folder, try_trial
from raymlops.values import Examples, JsonValue, Version

__all__ = ["run"]

_CODE = ("contract", "data", "engine", "spec", "train", "values.py")


def run(
    spec: Spec,
    *,
    model: str | None = None,
    on: str | None = None,
    validate: str | None = None,
    may_commit: Callable[[], None] = lambda: None,
    on_cluster: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> dict[str, JsonValue]:
    """Sweep, register the best model of each trainer, and make the best of all the champion.

    With `model`, a version such as NAME@champion, there is no sweep: its trainer and parameters are fitted to the
    rows of window `on` and judged on `validate`, and the version made is registered but not promoted. `on_cluster`
    holds a connection to Ray; it is entered only if more than one trial is left.
    """
    on, validate = on or spec.train.on, validate or spec.train.validate_on
    _known(spec, on, validate)
    prepare(spec)
    contract = check(spec) if model is None else infer_contract(spec, on=on)
    metric = metric_for(contract.label.task, spec.train.metric)
    tried = trials(spec.train) if model is None else [_like(registry.resolve(model), spec)]
    sweep = _Sweep(
        spec=spec,
        contract=contract,
        on=on,
        validate=validate,
        metric=metric,
        trials=tuple(tried),
        data=data_fingerprint(spec),
        stop_early=model is None,
    )
    say(f"train: sweep {sweep.id[:12]}, {len(tried)} trials, fitted on {on!r}, judged by {metric} on {validate!r}")
    results = _results(sweep, on_cluster)
    winner = best(results, metric)
    if winner is None:
        cause = next((result.cause for result in results if result.cause), f"no trial reports {metric}")
        raise StageFailed(f"train: none of {len(tried)} trials can be judged by {metric}; the first says: {cause}")
    may_commit()
    return _registered(sweep, results, winner, promote=model is None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sweep:
    spec: Spec
    contract: Contract
    on: str
    validate: str
    metric: str
    trials: tuple[Trial, ...]
    data: str
    stop_early: bool

    @property
    def id(self) -> str:
        """What decides about every byte of every trial."""
        parts = [asdict(trial) for trial in self.trials]
        windows = self.spec.data.model_dump(mode="json")
        return digest(
            [
                self.spec.name,
                parts,
                self.contract.to_json(),
                windows,
                self.on,
                self.validate,
                self.data,
                self.stop_early,
                self.spec.train.cpus_per_trial,
                code_digest(*_CODE),
                registry.packages(),
            ]
        )

    @property
    def folder(self) -> Path:
        return home() / "sweeps" / self.id[:16]


def _known(spec: Spec, *windows: str) -> None:
    problems = [
        f"window {name!r}: is not in data.windows ({', '.join(spec.data.windows)})"
        for name in windows
        if name not in spec.data.windows
    ]
    if problems:
        raise SpecError(*problems)


def _like(version: Version, spec: Spec) -> Trial:
    made = orjson.loads((version.path / "model.json").read_bytes())
    return Trial(index=0, trainer=made["trainer"], options=made["params"], seed=made["seed"])


def _results(sweep: _Sweep, on_cluster: Callable[[], AbstractContextManager[object]]) -> list[Result]:
    """Run the trials that have not ended yet and return how every trial ended, in trial order."""
    tracker = registry.Tracker(name=sweep.spec.name, sweep=sweep.id[:16], tags={"raymlops.model": sweep.spec.name})
    done = {trial.index: result for trial in sweep.trials if (result := read_result(sweep.folder, trial.index))}
    if done:
        say(f"train: {len(done)} of {len(sweep.trials)} trials are already there")
    left = [trial for trial in sweep.trials if trial.index not in done]
    failed: dict[int, str] = {}
    if left:
        train = examples(sweep.spec, on=sweep.on, contract=sweep.contract)
        valid = examples(sweep.spec, on=sweep.validate, contract=sweep.contract)
        _run_left(sweep, left, train, valid, tracker, failed, on_cluster)
    results = []
    for trial in sweep.trials:
        result = read_result(sweep.folder, trial.index) or Result(
            index=trial.index,
            trainer=trial.trainer,
            params=trial.options,
            metrics={},
            seconds=0.0,
            cause=failed.get(trial.index, "its worker died before it ended"),
        )
        _track(tracker, result)
        results.append(result)
    return results


def _run_left(
    sweep: _Sweep,
    left: Sequence[Trial],
    train: Examples,
    valid: Examples,
    tracker: registry.Tracker,
    failed: dict[int, str],
    on_cluster: Callable[[], AbstractContextManager[object]],
) -> None:
    with progress("train", total=len(left), unit="trials") as advance:

        def ended(index: int, cause: str) -> None:
            result = read_result(sweep.folder, index)
            if cause:
                failed[index] = cause
            note = f"trial {index}: {cause}" if cause else ""
            if result:
                _track(tracker, result)
                note = f"trial {index}, {result.trainer}: {sweep.metric} {result.metrics.get(sweep.metric, 0):.4f}"
            advance(1, note)

        setting = Setting(
            train=train,
            valid=valid,
            contract=sweep.contract,
            sweep=sweep.folder,
            threads=sweep.spec.train.cpus_per_trial,
            stop_early=sweep.stop_early,
        )
        if len(left) == 1:
            # A pool of processes takes longer to start than one trial gains by it.
            alone = try_trial(left[0], setting)
            ended(alone.index, alone.cause)
            return
        from raymlops.train.on_ray import run_trials

        with on_cluster():
            run_trials(left, setting, ended=ended)


def _track(tracker: registry.Tracker, result: Result) -> str:
    return tracker.trial(
        result.index, trainer=result.trainer, params=result.params, metrics=result.metrics, seconds=result.seconds
    )


def _registered(sweep: _Sweep, results: Sequence[Result], winner: Result, *, promote: bool) -> dict[str, JsonValue]:
    tracker = registry.Tracker(name=sweep.spec.name, sweep=sweep.id[:16], tags={})
    reference = _reference(sweep)
    versions = {}
    # The winner is registered last, so that the highest number of a sweep is its best model.
    finalists = sorted(best_of_each(results, sweep.metric).values(), key=lambda result: result.index == winner.index)
    for result in finalists:
        digest, path = registry.store_folder(_files(sweep, result, reference))
        version = registry.register(
            sweep.spec.name,
            digest=digest,
            path=path,
            run_id=_track(tracker, result),
            tags={
                "trainer": result.trainer,
                "sweep": sweep.id[:16],
                "fitted_on": sweep.on,
                "commit": registry.commit() or "",
            },
        )
        versions[result.index] = version
    champion = versions[winner.index]
    if promote:
        registry.tag_finalists(sweep.spec.name, {result.trainer: versions[result.index] for result in finalists})
        registry.promote(str(champion))
    value = winner.metrics[sweep.metric]
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
        "trials": [asdict(result) for result in results],
        "periods": [
            {"period": period, "rows": values["rows"], "metric": values.get(sweep.metric)}
            for period, values in orjson.loads((champion.path / "evaluation.json").read_bytes())["periods"].items()
        ],
        "versions": {str(v): results[i].trainer for i, v in versions.items()},
        "outputs": [str(evidence), str(champion.path)],
    }
    write_aside(evidence, dumps(summary, indent=True))
    say(
        f"train: {champion} is the {'champion' if promote else 'version made'}, {winner.trainer} of trial "
        f"{winner.index}, {sweep.metric} {value:.4f} on {sweep.validate!r}"
    )
    return summary


def _reference(sweep: _Sweep) -> dict[str, bytes]:
    rows = table(sweep.spec, on=sweep.on, columns=sweep.contract.names)
    profile = {name: column.to_json() for name, column in profile_table(sweep.contract, rows).items()}
    return {"contract.json": dumps(sweep.contract.to_json(), indent=True), "profile.json": dumps(profile)}


def _by_period(sweep: _Sweep, folder: Path) -> dict[str, dict[str, float]]:
    predictor = load_format(folder).load(folder, threads=sweep.spec.train.cpus_per_trial)
    task = sweep.contract.label.task
    return {
        period: {"rows": len(rows.y), **all_metrics(task, rows.y, predictor.predict(rows.x))}
        for period, rows in examples_by_period(sweep.spec, on=sweep.validate, contract=sweep.contract).items()
    }


def _files(sweep: _Sweep, result: Result, reference: dict[str, bytes]) -> dict[str, bytes]:
    folder = trial_folder(sweep.folder, result.index)
    made = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "result.json"}
    counts = {
        on: table(sweep.spec, on=on, columns=[sweep.contract.label.name]).num_rows for on in (sweep.on, sweep.validate)
    }
    periods = _by_period(sweep, folder)
    evaluation = {
        "metric": sweep.metric,
        "value": result.metrics[sweep.metric],
        "on": sweep.validate,
        "rows": counts[sweep.validate],
        "metrics": result.metrics,
        "periods": periods,
    }
    origin = registry.lineage(sweep.spec, data=sweep.data, rows=counts, sweep=sweep.id[:16], trial=result.index)
    return {
        **made,
        **reference,
        "evaluation.json": dumps(evaluation, indent=True),
        "lineage.json": dumps({**origin, "fitted_on": sweep.on}, indent=True),
    }
