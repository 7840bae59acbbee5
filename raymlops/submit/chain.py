"""Stages as Ray jobs, in order, each done once: `submit`. Knows nothing of how a stage is done."""

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from raymlops.codec import digest
from raymlops.errors import SpecError
from raymlops.spec import load
from raymlops.submit.address import check_address
from raymlops.submit.driver import CHAIN, drive
from raymlops.submit.follow import Setting, StepResult, ledger_mark, run_step
from raymlops.submit.identity import checked_stages, identity_of
from raymlops.submit.ledger import Ledger, Step
from raymlops.submit.outputs import outputs_exist
from raymlops.submit.place import place_of
from raymlops.submit.ray_jobs import job_server
from raymlops.telemetry import say

__all__ = ["Command", "StepResult", "submit"]

Command = Callable[[str, Path], list[str]]


def submit(
    stages: Sequence[str],
    spec_path: Path,
    *,
    address: str | None = None,
    follow: bool = False,
    arguments: Sequence[str] = (),
    command: Command | None = None,
) -> list[StepResult]:
    """Run stages one after the other as jobs of the cluster at `address`, else of the local one.

    A stage that is done, and whose outputs exist, is skipped; one that runs is waited for. With `follow` the call
    returns when all are done, showing their logs on standard error; without, a job of its own drives the chain, so
    that it goes on when this process ends, and that job is the only result unless everything was done already.
    A score with `score.every` is done once, for the last period that ended, if the spec speaks of one.
    `command(stage, spec)` gives the command line of a stage; it must use `attempt()`.

    SpecError, DataError: wrong input. Unavailable: no job server. StageFailed: a stage failed, and its cause.
    """
    wanted = checked_stages(stages)
    spec = load(spec_path)
    period = spec.last_period(now=datetime.now(UTC))
    spec = spec.in_period(period)
    url = check_address(address)
    with job_server(url) as server:
        server.probe()
        place = place_of(url, spec_path)
        setting = Setting(spec=spec, ledger=Ledger(), server=server, place=place, chain=os.environ.get(CHAIN, ""))
        if not follow:
            done = _done_already(setting, wanted, arguments)
            if len(done) == len(wanted):
                return done
            if command is not None:
                raise SpecError("submit: a command of your own needs follow=True; the driver job cannot be told of it")
            if wanted == ("score",) and spec.score.every:
                raise SpecError("submit: the spec has score.every; start_schedule keeps it, follow=True scores once")
            identity = digest([list(wanted), str(place.spec), list(arguments), ledger_mark(setting.ledger)])
            return [drive(setting, "chain", identity=identity, stages=wanted, arguments=arguments)]
        results = []
        for stage in wanted:
            words = [place.python, "-m", "raymlops", stage, str(place.spec), *arguments]
            if stage == "score" and period is not None:
                words += ["--period", str(period)]
            if command is not None:
                words = command(stage, place.spec)
            results.append(run_step(setting, _subject(setting, stage, arguments), words))
            # What the step itself made can be read by now, and names it from now on.
            _subject(setting, stage, arguments)
        return results


def _subject(setting: Setting, stage: str, arguments: Sequence[str]) -> Step:
    """Return the step of a stage, under the name that the ledger knows it by if it does.

    A step that prepares its own data is called by the data only afterwards: the first name is sealed to the second.
    """
    identity = identity_of(stage, setting.spec, arguments=arguments, here=setting.place.here)
    name = identity.now
    if identity.pending and identity.pending != identity.now and setting.ledger.find(identity.now) is None:
        pending = setting.ledger.find(identity.pending)
        if pending is not None and pending.sealed is None:
            name = identity.pending
            if pending.state.phase == "done":
                setting.ledger.seal(identity.pending, identity.now)
    place, server = setting.place, setting.server
    return Step(identity=name, stage=stage, name=setting.spec.name, spec=str(place.spec), address=server.url)


def _done_already(setting: Setting, stages: Sequence[str], arguments: Sequence[str]) -> list[StepResult]:
    done = []
    for stage in stages:
        step = setting.ledger.find(_subject(setting, stage, arguments).identity)
        if step is None or step.state.phase != "done" or not outputs_exist(step.outputs, here=setting.place.here):
            break
        say(f"{stage}: done ({step.submission_id})")
        done.append(
            StepResult(
                stage=stage,
                identity=step.identity,
                state="skipped",
                attempt=step.state.attempt,
                submission_id=step.submission_id,
                seconds=0.0,
                result=step.result,
            )
        )
    return done
