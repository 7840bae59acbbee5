"""The monitor stage: production, as it was scored, against training. Knows nothing of Ray."""

from collections.abc import Callable
from pathlib import Path

import orjson

from raymlops import registry
from raymlops.codec import dumps, write_aside
from raymlops.data import latest_scores, read_contract
from raymlops.errors import DataError
from raymlops.monitor.evidence import Question, evidence
from raymlops.monitor.rows import answered, incoming
from raymlops.monitor.shown import show
from raymlops.plugins import build
from raymlops.protocols import DriftTest
from raymlops.sketch import ColumnProfile
from raymlops.spec import Spec, home
from raymlops.telemetry import say
from raymlops.values import JsonValue, Version

__all__ = ["run", "watch"]


def run(
    spec: Spec,
    *,
    model: str | None = None,
    on: str | None = None,
    may_commit: Callable[[], None] = lambda: None,
) -> dict[str, JsonValue]:
    """Compare the latest scores of a version, of window `on` if given, with its training; return the evidence.

    `model` is NAME, NAME@3 or NAME@champion; else the champion. The evidence is written to
    HOME/monitor/NAME/RUN.json, RUN being the scored run: doing it again replaces it, with the labels that have come
    since. Raise NotFound without a version or without scores of it.
    """
    return watch(spec, registry.resolve(model or spec.name), on=on, may_commit=may_commit)


def watch(
    spec: Spec, version: Version, *, on: str | None = None, may_commit: Callable[[], None] = lambda: None
) -> dict[str, JsonValue]:
    """Do what `run` does for a version that has been looked up."""
    contract = read_contract(version.path)
    judged = orjson.loads((version.path / "evaluation.json").read_bytes())
    scores = latest_scores(version, on=on)
    question = Question(
        contract=contract,
        reference=_reference(version.path, contract.names),
        metric=judged["metric"],
        tests=_tests(spec),
        period=spec.monitor.period,
        time=spec.data.time,
    )
    say(f"monitor: {version}, run {scores.run}, {scores.scored:,} scored rows")
    rows = incoming(spec, contract, scores)
    answers, why = answered(spec, contract, scores, rows)
    if why:
        say(f"monitor: {why}")
    target = home() / "monitor" / version.name / f"{scores.run}.json"
    found: dict[str, JsonValue] = {
        "model": str(version),
        "run": scores.run,
        "on": scores.on,
        "reference": str(version.path / "profile.json"),
        "metric": judged["metric"],
        "validation": judged["value"],
        "periods": list[JsonValue](evidence(question, rows, answers, why=why)),
        "outputs": [str(target)],
    }
    may_commit()
    write_aside(target, dumps(found, indent=True))
    show(found)
    return found


def _reference(folder: Path, names: tuple[str, ...]) -> dict[str, ColumnProfile]:
    held = orjson.loads((folder / "profile.json").read_bytes())
    absent = [name for name in names if name not in held]
    if absent:
        raise DataError(f"{folder / 'profile.json'}: has no profile of {', '.join(absent)}; train the model again")
    return {name: ColumnProfile.from_json(held[name]) for name in names}


def _tests(spec: Spec) -> list[tuple[str, DriftTest]]:
    """Each test with its name; a kind that is given again, with other options, gets a number."""
    made: dict[str, DriftTest] = {}
    for index, value in enumerate(spec.monitor.tests):
        kind = value if isinstance(value, str) else str(next(iter(value))) if isinstance(value, dict) else str(value)
        test = build("raymlops.monitor.drift_tests", value, where=f"monitor.tests.{index}")
        assert isinstance(test, DriftTest)
        again = sum(name.split("-")[0] == kind for name in made)
        made[f"{kind}-{again + 1}" if again else kind] = test
    return list(made.items())
