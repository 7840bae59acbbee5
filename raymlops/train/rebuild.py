"""Make a version again from what it says of itself, and say whether the bytes came again. Changes nothing.

It is fitted with the parameters that were found (`model.json`), on the window and rows that its lineage names.
"""

import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson

from raymlops import registry
from raymlops.codec import code_digest
from raymlops.contract import Contract
from raymlops.data import data_fingerprint, examples, prepare, read_contract
from raymlops.errors import SpecError, StageFailed
from raymlops.plugins import build
from raymlops.protocols import Trainer
from raymlops.spec import Spec, home
from raymlops.telemetry import say
from raymlops.train.fit import Setting
from raymlops.train.loop import Runner
from raymlops.train.register import ENSEMBLE
from raymlops.train.renewal import Order, renewed
from raymlops.train.spread import no_rows, spread_of
from raymlops.train.sweep import Trial, trainer_of
from raymlops.train.trial import trial_folder
from raymlops.train.weights import weighted
from raymlops.values import Version

__all__ = ["Rebuilt", "rebuild"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What came of it: the names of the model's files that differ, and what is not as it was when it was made."""

    version: str
    files: tuple[str, ...]
    changed: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """In words."""
        if not self.files:
            return "bit-equal"
        because = "; ".join(self.changed) or "all that its lineage names is as it was, so the machine differs"
        return f"not the same: {', '.join(self.files)} differ; {because}"


def rebuild(version: Version, *, on_cluster: Callable[[], AbstractContextManager[object]] = nullcontext) -> Rebuilt:
    """Fit a version again and compare. Raise SpecError for one whose lineage cannot be followed, such as a student.

    `on_cluster` holds a connection to Ray; it is entered only for a version whose fit was spread over workers.
    """
    lineage = _json(version, "lineage.json")
    made = _json(version, "model.json")
    if "teacher" in lineage:
        raise SpecError(f"{version}: is a student, which `raymlops optimize` makes again from its teacher")
    try:
        held = lineage["spec"]["data"]["windows"]
        lineage["spec"]["data"]["windows"] = {name: held[name] for name in lineage["windows"]}
        spec, on, trainer_name = Spec.model_validate(lineage["spec"]), lineage["fitted_on"], made["trainer"]
    except (KeyError, ValueError) as error:
        raise SpecError(f"{version}: its lineage does not say what it was made of ({error}); train it again") from error
    prepare(spec)
    changed = tuple(_changed(lineage, registry.origin_of(version), data=data_fingerprint(spec)))
    contract = read_contract(version.path)
    trainer: Trainer | None = None
    if trainer_name != ENSEMBLE:
        trainer = build("raymlops.train.trainers", {trainer_name: made["params"]}, where=f"{version}")
    if trainer and trainer.code() != lineage.get("users_code", ""):
        changed = (*changed, "the user's code that its trainer runs is another")
    if "renewed" in lineage:
        return _renewed_again(version, spec, lineage, changed)
    say(f"train: {version} is made again by {trainer_name} on window {on!r}")
    assert trainer is not None
    if spec.train.workers > 1:
        trial = Trial(index=0, trainer=trainer_name, options=made["params"], seed=made["seed"], point={})
        with on_cluster():
            files = _spread_again(spec, trial, contract, on=on, judged_on=list(lineage["windows"])[-1])
        return Rebuilt(version=str(version), files=tuple(_different(version, files)), changed=changed)
    fitted = trainer.fit(
        weighted(examples(spec, on=on, contract=contract), spec.train.class_weight, contract.label),
        None,
        categories=contract.category_counts,
        task=contract.label.task,
        classes=len(contract.label.classes),
        seed=made["seed"],
        threads=spec.train.cpus_per_trial,
    )
    return Rebuilt(version=str(version), files=tuple(_different(version, fitted.files)), changed=changed)


def _spread_again(spec: Spec, trial: Trial, contract: Contract, *, on: str, judged_on: str) -> dict[str, bytes]:
    """Return the files of a fit that is spread over workers as it was before; raise StageFailed where it fails."""
    from raymlops.train.gang.on_ray import gang

    home().mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="rebuilt-", dir=home()) as name:
        setting = Setting(
            train=no_rows(contract),
            valid=examples(spec, on=judged_on, contract=contract),
            contract=contract,
            sweep=Path(name),
            threads=spec.train.cpus_per_trial,
            stop_early=False,
            gpus=trainer_of(trial).gpus(),
        )
        with Runner(
            sweep=Path(name),
            setting=lambda: setting,
            hire=lambda: gang(setting, spread_of(spec, on=on, contract=contract)),
            heard=lambda result: None,
            here=False,
        ) as runner:
            (result,) = runner.run([trial])
        if result.cause:
            raise StageFailed(f"train: the fit fails this time: {result.cause}")
        made = trial_folder(Path(name), trial.index).iterdir()
        return {path.name: path.read_bytes() for path in made if path.name not in ("result.json", "model.json")}


def _renewed_again(version: Version, spec: Spec, lineage: Mapping[str, Any], changed: tuple[str, ...]) -> Rebuilt:
    """Renew the older versions, found by their bytes, as this one was."""
    told = lineage["renewed"]
    held = {one.digest: one for one in registry.listed(version.name)}
    missing = [digest for digest in told["versions"] if digest not in held]
    if missing:
        raise SpecError(f"{version}: was made of a version with digest {missing[0][:12]}, which is not registered here")
    say(f"train: {version} is made again of {', '.join(str(held[digest]) for digest in told['versions'])}")
    order = Order(
        spec=spec,
        how=told["how"],
        versions=tuple(held[digest] for digest in told["versions"]),
        on=told["on"],
        validate=told["validate"],
        metric=told["metric"],
        contract=read_contract(version.path),
    )
    fitted = renewed(order).fitted
    files = tuple(_different(version, fitted.files)) if fitted else ("nothing, for this time it is not better,",)
    return Rebuilt(version=str(version), files=files, changed=changed)


def _different(version: Version, files: Mapping[str, bytes]) -> Iterator[str]:
    for name, data in sorted(files.items()):
        path = version.path / name
        if not path.is_file() or sha256(path.read_bytes()).digest() != sha256(data).digest():
            yield name


def _changed(lineage: Mapping[str, Any], made: registry.Origin | None, *, data: str) -> Iterator[str]:
    """Yield what is not as it was: the rows, the code, Python, a package, the machine."""
    if lineage["data"] != data:
        yield "the rows of data.source are not those it was fitted on"
    if lineage["code"] != code_digest():
        yield "the code of raymlops is another"
    if lineage["python"] != platform.python_version():
        yield f"Python was {lineage['python']} and is {platform.python_version()}"
    now = registry.packages()
    for name, was in sorted(lineage["packages"].items()):
        if now.get(name) != was:
            yield f"{name} was {was} and is {now.get(name, 'gone')}"
    here = registry.origin()
    for what in ("commit", "cpu", "gpus") if made else ():
        was, there = getattr(made, what), getattr(here, what)
        if was != there:
            yield f"{what} was {was or 'none'} and is {there or 'none'}"


def _json(version: Version, name: str) -> dict[str, Any]:
    try:
        made: dict[str, Any] = orjson.loads((version.path / name).read_bytes())
    except FileNotFoundError as error:
        raise SpecError(f"{version}: has no {name}, so nothing says how it was made") from error
    return made
