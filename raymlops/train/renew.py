"""Renew a version, register what came of it if it is better, and say so either way. Knows nothing of Ray."""

from collections.abc import Callable
from dataclasses import asdict

import orjson

from raymlops import registry
from raymlops.codec import digest
from raymlops.data import data_manifest, examples, infer_contract, read_contract
from raymlops.errors import StageFailed
from raymlops.spec import Spec
from raymlops.telemetry import say
from raymlops.train.fit import Setting
from raymlops.train.metrics import metric_for
from raymlops.train.register import Sweep, reference_files, register_one
from raymlops.train.renewal import Order, Renewed, renewed
from raymlops.train.sweep import Trial
from raymlops.train.trial import keep_model
from raymlops.values import JsonValue, Renewal, Version

__all__ = ["renew"]


def renew(
    spec: Spec,
    how: Renewal,
    versions: tuple[Version, ...],
    *,
    on: str,
    validate: str,
    origin: registry.Origin,
    may_commit: Callable[[], None],
) -> dict[str, JsonValue]:
    """Return what was made and by how much it is better; `model` is None where nothing is registered."""
    first = versions[0]
    contract = infer_contract(spec, on=on) if how == "adapt" else read_contract(first.path)
    metric = metric_for(contract.label.task, spec.train.metric)
    order = Order(spec=spec, how=how, versions=versions, on=on, validate=validate, metric=metric, contract=contract)
    say(f"train: {', '.join(map(str, versions))}: {how}, on {on!r}, judged by {metric} on rows that it has not seen")
    made = renewed(order)
    sure = f"{made.gain.value:+.4f} {metric}, 95 % interval {made.gain.low:+.4f} to {made.gain.high:+.4f}"
    told: dict[str, JsonValue] = {
        "how": how, "of": [str(version) for version in versions], "kept": made.kept, "on": on, "validate": validate,
        "metric": metric, "gain": asdict(made.gain), **made.told,
    }  # fmt: skip
    if made.fitted is None:
        say(f"train: undone, nothing is registered: {sure}")
        return {**told, "model": None, "outputs": []}
    may_commit()
    version = _registered(order, made, origin)
    evaluation = orjson.loads((version.path / "evaluation.json").read_bytes())
    what = "is better" if made.kept else "is the plain fit, for weights are not better"
    say(f"train: {version} {what}: {sure}; on all of {validate!r} {metric} {evaluation['value']:.4f}")
    periods: list[JsonValue] = [
        {"period": period, "rows": values["rows"], "metric": values.get(metric)}
        for period, values in evaluation["periods"].items()
    ]
    return {
        **told,
        "model": str(version),
        "value": evaluation["value"],
        "periods": periods,
        "outputs": [str(version.path)],
    }


def _registered(order: Order, made: Renewed, origin: registry.Origin) -> Version:
    assert made.fitted is not None
    spec, first, manifest = order.spec, order.versions[0], data_manifest(order.spec)
    lineage: dict[str, JsonValue] = {
        "how": order.how,
        "versions": [version.digest for version in order.versions],
        "on": order.on,
        "validate": order.validate,
        "metric": order.metric,
    }
    trial = Trial(index=0, trainer=order.trainer, options=made.fitted.params, seed=order.seed, point={})
    sweep = Sweep(
        spec=spec,
        contract=order.contract,
        on=order.on,
        validate=order.validate,
        metric=order.metric,
        alone=trial,
        data=digest([manifest["digest"], lineage]),
        manifest=manifest,
        origin=origin,
    )
    valid = examples(spec, on=order.validate, contract=order.contract)
    threads = spec.train.cpus_per_trial
    setting = Setting(
        train=valid, valid=valid, contract=order.contract, sweep=sweep.folder, threads=threads, stop_early=False
    )
    result = keep_model(trial, made.fitted, setting)
    if order.metric not in result.metrics:
        raise StageFailed(f"train: {first} renewed cannot be judged by {order.metric} on {order.validate!r}")
    reference = (
        reference_files(sweep)
        if order.how == "adapt"
        else {name: (first.path / name).read_bytes() for name in ("contract.json", "profile.json")}
    )
    return register_one(sweep, result, reference, more={"renewed": lineage}, tags={"renewed": order.how})
