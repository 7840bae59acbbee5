"""The train stage: contract, sweep, judgement, registration. Knows nothing of Ray, and of MLflow only the registry."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property

import orjson

from raymlops import registry
from raymlops.data import Fold, data_manifest, examples, examples_in_folds, infer_contract, prepare
from raymlops.errors import SpecError, StageFailed
from raymlops.spec import Spec
from raymlops.telemetry import progress, say
from raymlops.train.check import check
from raymlops.train.fit import Setting
from raymlops.train.loop import Runner, Workers, run_sweep
from raymlops.train.metrics import metric_for
from raymlops.train.register import ENSEMBLE, Sweep, record, register_best
from raymlops.train.renew import renew
from raymlops.train.repeat import repeated
from raymlops.train.spread import Spread, no_rows, spread_of
from raymlops.train.standings import standings
from raymlops.train.sweep import Result, Trial, best
from raymlops.train.trial import read_results
from raymlops.values import JsonValue, Renewal, Version

__all__ = ["run"]


def run(
    spec: Spec,
    *,
    model: str | None = None,
    how: Renewal = "again",
    members: Sequence[str] = (),
    on: str | None = None,
    validate: str | None = None,
    may_commit: Callable[[], None] = lambda: None,
    on_cluster: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> dict[str, JsonValue]:
    """Sweep, register the best model of each trainer, and make the best of all the champion.

    With `model`, a version such as NAME@champion, there is no sweep: its trainer and parameters are fitted to the
    rows of window `on` and judged on `validate`, and the version made is registered but not promoted; `how` says in
    which way, and `members` are the versions that it is joined with. `on_cluster` holds a connection to Ray; it is
    entered only if more than one trial is left.
    """
    on, validate = on or spec.train.on, validate or spec.train.validate_on
    _known(spec, on, validate)
    if model is None and (how != "again" or members):
        raise SpecError(f"--how {how}: says how a version is renewed; name it with --model NAME@V")
    if how in ("adapt", "continue") and spec.train.workers > 1:
        raise SpecError(f"--how {how}: is one fit in one process; set train.workers to 1, {spec.train.workers} given")
    registry.allow("trainer", spec.name)
    origin = registry.origin()
    if spec.registry.protected:
        registry.check_clean(origin, where="registry.protected")
    prepare(spec)
    if model is not None and how != "again":
        versions = tuple(registry.resolve(ref) for ref in dict.fromkeys([model, *members]))
        return renew(spec, how, versions, on=on, validate=validate, origin=origin, may_commit=may_commit)
    contract = check(spec) if model is None else infer_contract(spec, on=on)
    metric = metric_for(contract.label.task, spec.train.metric)
    manifest = data_manifest(spec)
    sweep = Sweep(
        spec=spec,
        contract=contract,
        on=on,
        validate=validate,
        metric=metric,
        alone=_like(registry.resolve(model)) if model is not None else None,
        data=str(manifest["digest"]),
        manifest=manifest,
        origin=origin,
    )
    count = 1 if model else sum(body.trials for body in spec.train.trainers.values())
    say(f"train: sweep {sweep.id[:12]}, {count} trials, fitted on {on!r}, judged by {metric} on {validate!r}")
    tracker = sweep.tracker()
    results, verdict = _results(sweep, count, tracker, on_cluster)
    winner = best(results, metric)
    if winner is None:
        cause = next((result.cause for result in results if result.cause), f"no trial reports {metric}")
        raise StageFailed(f"train: none of {len(results)} trials can be judged by {metric}; the first says: {cause}")
    may_commit()
    return register_best(sweep, results, winner, tracker, verdict=verdict)


def _known(spec: Spec, *windows: str) -> None:
    problems = [
        f"window {name!r}: is not in data.windows ({', '.join(spec.data.windows)})"
        for name in windows
        if name not in spec.data.windows
    ]
    if problems:
        raise SpecError(*problems)


def _like(version: Version) -> Trial:
    made = orjson.loads((version.path / "model.json").read_bytes())
    if made["trainer"] == ENSEMBLE:
        raise SpecError(f"{version}: joins others and was not fitted; name one of its members, or --how join")
    return Trial(index=0, trainer=made["trainer"], options=made["params"], seed=made["seed"], point={})


def _results(
    sweep: Sweep, count: int, tracker: registry.Tracker, on_cluster: Callable[[], AbstractContextManager[object]]
) -> tuple[list[Result], str]:
    """Run what has not ended yet; return how every trial ended, in trial order, and whether the best one repeats."""
    train, rows = sweep.spec.train, _Rows(sweep)
    spreads = train.workers > 1

    @contextmanager
    def hire() -> Iterator[Workers]:
        if spreads:
            from raymlops.train.gang.on_ray import gang

            with on_cluster(), gang(rows.setting, rows.spread) as workers:
                yield workers
            return
        from raymlops.train.on_ray import pool

        with on_cluster(), pool(rows.setting, trials=count) as workers:
            yield workers

    ended = read_results(sweep.folder, count)
    before = sum(result.rung == 0 for result in ended)
    if before:
        say(f"train: {before} of {count} trials ended in an earlier run of the sweep")
    with progress(
        "train", total=count - before, unit="trials", table=lambda: standings(ended, sweep.metric)
    ) as advance:

        def heard(result: Result) -> None:
            record(tracker, result)
            ended.append(result)
            told = result.cause or f"{sweep.metric} {result.judged(sweep.metric):.4f}"
            rung = f", {result.share:.2g} of it" if result.share < 1 else ""
            advance(1 if result.rung == 0 else 0, f"trial {result.index}, {result.trainer}{rung}: {told}")

        with Runner(
            sweep=sweep.folder, setting=lambda: rows.setting, hire=hire, heard=heard, here=not spreads
        ) as runner:
            found = runner.run([sweep.alone]) if sweep.alone else run_sweep(train, sweep.metric, runner)
            for result in found:
                record(tracker, result)  # also what an earlier run of the sweep could not
            winner = best(found, sweep.metric)
            if sweep.alone or winner is None or not train.repeat:
                return found, ""
            return found, repeated(winner, sweep.folder, lambda: rows.setting, runner.run)


class _Rows:
    """The rows of a sweep, read when they are first needed."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep

    @cached_property
    def setting(self) -> Setting:
        sweep = self._sweep
        folds: tuple[Fold, ...] = ()
        if sweep.spec.train.workers > 1:
            train = no_rows(sweep.contract)
        elif sweep.alone is None:
            train, folds = examples_in_folds(sweep.spec, on=sweep.on, contract=sweep.contract)
        else:
            train = examples(sweep.spec, on=sweep.on, contract=sweep.contract)
        return Setting(
            train=train,
            valid=examples(sweep.spec, on=sweep.validate, contract=sweep.contract),
            contract=sweep.contract,
            sweep=sweep.folder,
            threads=sweep.spec.train.cpus_per_trial,
            stop_early=sweep.alone is None,
            gpus=sweep.gpus,
            folds=folds,
            class_weight=sweep.spec.train.class_weight,
        )

    @cached_property
    def spread(self) -> Spread:
        return spread_of(self._sweep.spec, on=self._sweep.on, contract=self._sweep.contract)
