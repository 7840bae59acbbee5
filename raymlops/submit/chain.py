"""Stages as Ray jobs, in order, each done once: `submit`. Knows nothing of how a stage is done."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from raymlops.codec import digest
from raymlops.errors import SpecError
from raymlops.spec import load
from raymlops.submit.address import check_address
from raymlops.submit.follow import Setting, StepResult, ledger_mark, run_step
from raymlops.submit.identity import checked_stages, identity_of
from raymlops.submit.ledger import Ledger, Step
from raymlops.submit.outputs import outputs_exist
from raymlops.submit.place import place_of
from raymlops.submit.ray_jobs import job_server
from raymlops.telemetry import say

__all__ = ["CHAIN", "Command", "StepResult", "submit"]

CHAIN = "RAYMLOPS_CHAIN"
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
    `command(stage, spec)` gives the command line of a stage; it must use `attempt()`.

    SpecError, DataError: wrong input. Unavailable: no job server. StageFailed: a stage failed, and its cause.
    """
    wanted = checked_stages(stages)
    spec = load(spec_path)
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
            return [_driven(setting, wanted, arguments)]
        results = []
        for stage in wanted:
            words = (
                command(stage, place.spec)
                if command
                else [place.python, "-m", "raymlops", stage, str(place.spec), *arguments]
            )
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


def _driven(setting: Setting, stages: Sequence[str], arguments: Sequence[str]) -> StepResult:
    begun, place, server = time.time(), setting.place, setting.server
    identity = digest([list(stages), str(place.spec), list(arguments), ledger_mark(setting.ledger)])
    prefix = f"chain-{identity[:12]}-a"
    before = [job for job in server.jobs() if job.id.startswith(prefix)]
    attempt = max((int(job.id.removeprefix(prefix)) for job in before), default=0)
    running = any(job.state in ("pending", "running") for job in before)
    id = f"{prefix}{attempt if running else attempt + 1}"
    if running:
        say(f"chain: runs already ({id})")
    else:
        words = [
            place.python,
            "-m",
            "raymlops",
            "submit",
            *stages,
            str(place.spec),
            "--follow",
            "--address",
            server.url,
        ]
        server.submit(
            id,
            place.entrypoint([*words, *(["--", *arguments] if arguments else [])]),
            variables={CHAIN: id} | place.variables(),
            metadata={"raymlops": "chain", "name": setting.spec.name, "stages": ",".join(stages)},
            working_dir=place.working_dir(server),
        )
        say(f"chain: submitted ({id}); see `raymlops jobs logs {id}`")
    return StepResult(
        stage="chain",
        identity=identity,
        state="attached" if running else "submitted",
        attempt=attempt if running else attempt + 1,
        submission_id=id,
        seconds=time.time() - begun,
    )
