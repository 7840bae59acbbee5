"""Bring one step to its end: ask the ledger, do what it says, look at Ray, ask again. Decides nothing itself."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import orjson

from raymlops.codec import digest
from raymlops.errors import NotFound, RaymlopsError, StageFailed, Unavailable
from raymlops.spec import Spec
from raymlops.submit.address import is_local
from raymlops.submit.decide import (
    Action,
    Asked,
    Attach,
    Event,
    Failed,
    Finished,
    Limits,
    Observed,
    Report,
    Skip,
    Stop,
    Submit,
    Wait,
)
from raymlops.submit.fence import ATTEMPT, FAILED, RESULT, STAGE, STEP
from raymlops.submit.ledger import Ledger, Step, submission_id
from raymlops.submit.outputs import outputs_exist
from raymlops.submit.place import Place
from raymlops.submit.ray_jobs import RayJob, RayJobs, cause_in, exit_cause, job_server
from raymlops.submit.schedule import Lease
from raymlops.telemetry import say
from raymlops.values import JsonValue

__all__ = ["Setting", "StepResult", "ledger_mark", "limits_of", "look", "run_step"]

_POLL_S, _WAIT_S = 0.3, 1.0
# How long a job server may be silent while a job is followed: a head under load misses a poll now and then.
_SILENCE_S = 15.0


Outcome = Literal["done", "skipped", "attached", "submitted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What became of a stage: run by this call, skipped as done, waited for, or (a chain) submitted."""

    stage: str
    identity: str
    state: Outcome
    attempt: int
    submission_id: str
    seconds: float
    result: dict[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What all steps of one submission share; `chain` is the job that drives them, if there is one.

    With a `lease` nothing is begun or found out any more once another one has it: Conflict.
    """

    spec: Spec
    ledger: Ledger
    server: RayJobs
    place: Place
    chain: str = ""
    lease: Lease | None = None


def limits_of(spec: Spec) -> Limits:
    """Return the limits that a spec sets."""
    return Limits(attempts=spec.submit.attempts, timeout_s=spec.submit.timeout_s)


def ledger_mark(ledger: Ledger) -> str:
    """Return what tells jobs of this ledger from those of another with the same steps."""
    return digest(str(ledger.path))[:16]


def run_step(setting: Setting, subject: Step, command: Sequence[str]) -> StepResult:
    """Return when a step is done, by this call, an earlier or another one; StageFailed carries the cause."""
    begun, tail, mine, attached = time.time(), _Tail(), 0, False
    event: Event = _asked(setting, subject)
    while True:
        step, actions = _advance(setting, subject, event)
        if tail.id and any(isinstance(action, Skip | Report) for action in actions):
            tail.show(setting.server, step)
        for action in actions:
            _told(step, action, tail)
            _carried_out(setting, step, action, command)
        mine = max((action.attempt for action in actions if isinstance(action, Submit)), default=mine)
        attached = attached or any(isinstance(action, Attach) for action in actions)
        if Skip() in actions:
            state: Outcome = "done" if mine == step.state.attempt else "attached" if mine or attached else "skipped"
            return _result(step, state, time.time() - begun)
        if Wait() in actions:
            _free_slots(setting, subject)
            time.sleep(_WAIT_S)
        if Wait() in actions and isinstance(event, Asked):
            event = _asked(setting, subject)
        else:
            time.sleep(_POLL_S)
            event = _patiently_observed(setting, step)
            # Before the next attempt begins, the rest of what this one wrote.
            tail.show(setting.server, step)


def look(setting: Setting, step: Step) -> Observed:
    """Return what Ray says of the current attempt of a step, at the job server that has it.

    Where the ledger of the job cannot be seen from here, the outcome in the job's log is entered first.
    """
    if step.address in ("", setting.server.url):
        return _looked(setting, setting.server, step)
    try:
        with job_server(step.address) as server:
            return _looked(setting, server, step)
    except Unavailable:
        if not is_local(step.address):
            raise
        return Observed(now=time.time(), attempt=step.state.attempt, job="missing")


def _advance(setting: Setting, subject: Step, event: Event) -> tuple[Step, tuple[Action, ...]]:
    limits, running = limits_of(setting.spec), setting.spec.submit.running
    return setting.ledger.advance(subject, event, limits=limits, running=running, lease=setting.lease)


def _asked(setting: Setting, subject: Step) -> Asked:
    known = setting.ledger.find(subject.identity)
    if known is not None:
        exist = known.state.phase == "done" and outputs_exist(known.outputs, here=setting.place.here)
        return Asked(now=time.time(), outputs_exist=exist)
    prefix = submission_id(subject.stage, subject.identity, 0).removesuffix("0")
    numbers = [job.id.removeprefix(prefix) for job in setting.server.jobs() if job.id.startswith(prefix)]
    return Asked(now=time.time(), used=max((int(number) for number in numbers if number.isdigit()), default=0))


def _carried_out(setting: Setting, step: Step, action: Action, command: Sequence[str]) -> None:
    match action:
        case Submit(_):
            _submit(setting, step, command)
        case Stop(attempt):
            setting.server.stop(submission_id(step.stage, step.identity, attempt))
        case Report(cause):
            raise StageFailed(f"{step.stage} failed in attempt {step.state.attempt}: {cause}")


def _submit(setting: Setting, step: Step, command: Sequence[str]) -> None:
    attempt = step.state.attempt
    mark = ledger_mark(setting.ledger)
    metadata = {
        "raymlops": step.stage,
        "name": step.name,
        "identity": step.identity,
        "attempt": str(attempt),
        "ledger": mark,
        "chain": setting.chain,
    }
    variables = {STEP: step.identity, ATTEMPT: str(attempt), STAGE: step.stage} | setting.place.variables()
    try:
        new = setting.server.submit(
            step.submission_id,
            setting.place.entrypoint(command),
            variables=variables,
            metadata=metadata,
            working_dir=setting.place.working_dir(setting.server),
        )
        if not new and setting.server.find(step.submission_id).metadata.get("ledger") != mark:
            raise StageFailed(f"{step.submission_id}: is the name of a job that another ledger submitted; submit again")
    except RaymlopsError as error:
        _advance(setting, step, Failed(now=time.time(), attempt=attempt, cause=str(error)))
        raise


def _patiently_observed(setting: Setting, step: Step) -> Observed:
    deadline = time.monotonic() + _SILENCE_S
    while True:
        try:
            return look(setting, step)
        except Unavailable as error:
            if time.monotonic() > deadline:
                raise Unavailable(f"{error}; submit again to find out what became of {step.submission_id}") from error
            time.sleep(_WAIT_S)


def _looked(setting: Setting, server: RayJobs, step: Step) -> Observed:
    job = server.find(step.submission_id)
    attempt = step.state.attempt
    if job.state in ("missing", "pending", "running"):
        return Observed(now=time.time(), attempt=attempt, job=job.state)
    log = _log(server, job.id)
    if not setting.place.here:
        _enter(setting, step, log)
    cause = "" if job.state == "succeeded" else _cause(job, log)
    return Observed(now=time.time(), attempt=attempt, job=job.state, cause=cause, final=job.exit_code in (2, 3))


def _cause(job: RayJob, log: str) -> str:
    ended = exit_cause(job)
    if job.state == "stopped" or ended.startswith("killed"):
        return ended or "stopped"
    return cause_in(log) or job.message or ended


def _log(server: RayJobs, id: str) -> str:
    try:
        return server.logs(id)
    except (NotFound, StageFailed):
        return ""


def _enter(setting: Setting, step: Step, log: str) -> None:
    now, attempt = time.time(), step.state.attempt
    for line in log.splitlines():
        if line.startswith(RESULT):
            result = orjson.loads(line.removeprefix(RESULT))
            setting.ledger.report(step, Finished(now=now, attempt=attempt), result=result)
        if line.startswith(FAILED):
            told = orjson.loads(line.removeprefix(FAILED))
            setting.ledger.report(step, Failed(now=now, attempt=attempt, cause=told["cause"], final=told["final"]))


def _free_slots(setting: Setting, step: Step) -> None:
    """Find out about the steps that hold the slots: one whose job is gone holds none."""
    for other in setting.ledger.active():
        if other.identity != step.identity:
            try:
                _advance(setting, other, look(setting, other))
            except Unavailable:
                continue


def _told(step: Step, action: Action, tail: "_Tail") -> None:
    match action:
        case Wait() if not tail.waits:
            tail.waits = True
            say(f"{step.stage}: waits; as many stages run as submit.running allows")
        case Submit(attempt):
            again = f" after: {step.state.cause.splitlines()[0]}" if step.state.cause else ""
            say(f"{step.stage}: submitted, attempt {attempt} ({step.submission_id}){again}")
        case Attach(attempt):
            say(f"{step.stage}: runs already, attached to attempt {attempt} ({step.submission_id})")
        case Stop(attempt):
            say(f"{step.stage}: attempt {attempt} is stopped: {step.state.cause}")
        case Skip() if step.state.phase == "done":
            say(f"{step.stage}: done ({step.submission_id})")


def _result(step: Step, state: Outcome, seconds: float) -> StepResult:
    return StepResult(
        stage=step.stage,
        identity=step.identity,
        state=state,
        attempt=step.state.attempt,
        submission_id=step.submission_id,
        seconds=seconds,
        result=step.result,
    )


@dataclass(slots=True)
class _Tail:
    """Show a job's log as it grows. Ray's own tail lags by seconds, so the log is read from where it was left."""

    id: str = ""
    shown: int = 0
    waits: bool = False

    def show(self, server: RayJobs, step: Step) -> None:
        """Write what is new of the current attempt's log to standard error; silent about a log that is not there."""
        if step.submission_id != self.id:
            self.id, self.shown = step.submission_id, 0
        try:
            text = server.logs(self.id)
        except RaymlopsError:
            return
        sys.stderr.write(text[self.shown :])
        sys.stderr.flush()
        self.shown = max(self.shown, len(text))
