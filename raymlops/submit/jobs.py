"""What was submitted: the ledger's steps and schedules joined with what Ray says of their jobs; causes of failures."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC

from raymlops.errors import NotFound, Unavailable
from raymlops.plugins import suggestion
from raymlops.submit.address import check_address
from raymlops.submit.decide import Failed, Limits
from raymlops.submit.ledger import Ledger, Step
from raymlops.submit.ray_jobs import RayJob, RayJobs, cause_in, exit_cause, job_server
from raymlops.submit.timetable import Schedule

__all__ = ["Job", "jobs", "logs", "show", "stop"]

_ENDED = ("failed", "stopped", "succeeded")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A submitted job. `state` is the ledger's word, `ray_status` Ray's; times are seconds of the epoch.

    `state` is claimed, running, done or failed, or `superseded` for an attempt that a later one took over from; of a
    job that this ledger does not hold it is Ray's word. A schedule has one job, the one that keeps it or, while there
    is none, one of its own name, which is `held` by a process outside of Ray or `idle`; `due` says when it scores next.
    """

    id: str
    stage: str
    name: str
    state: str
    ray_status: str
    attempt: int
    started: float | None
    finished: float | None
    cause: str
    outputs: tuple[str, ...]
    due: float | None = None


def jobs(address: str | None = None) -> list[Job]:
    """Return all jobs, the newest first. With no address and no local cluster, what the ledger alone knows."""
    ledger = Ledger()
    steps = {step.submission_id: step for step in ledger.steps()}
    with _server(address) as server:
        at_ray = {job.id: job for job in server.jobs()} if server else {}
    found = [_job(id, steps.get(id), at_ray.get(id)) for id in {**steps, **at_ray}]
    for schedule in ledger.schedules():
        found = _with_schedule(found, schedule)
    return sorted(found, key=lambda job: job.started or 0.0, reverse=True)


def show(id: str, address: str | None = None) -> Job:
    """Return one job, by its id or the beginning of it; a failed one carries its cause. NotFound names the others."""
    found = _one(id, jobs(address))
    if found.cause or found.ray_status not in ("failed", "stopped"):
        return found
    with _server(address) as server:
        assert server is not None
        ray = server.find(found.id)
        log = "" if found.ray_status == "stopped" else server.logs(found.id)
    ended = exit_cause(ray)
    cause = ended if ended.startswith("killed") else cause_in(log) or ray.message or ended
    return replace(found, cause=cause)


def logs(id: str, address: str | None = None) -> str:
    """Return the log of a job. NotFound: Ray does not know it, or its cluster was ended."""
    found = _one(id, jobs(address))
    with _server(address) as server:
        if server is None:
            raise NotFound(f"{found.id}: no cluster is up, and its log ended with its cluster")
        return server.logs(found.id)


def stop(id: str, address: str | None = None) -> Job:
    """Stop a job, and of a chain the stage that runs; it will not be tried again until it is submitted again."""
    found = _one(id, jobs(address))
    ledger = Ledger()
    with _server(address) as server:
        below = [job.id for job in server.jobs() if job.metadata.get("chain") == found.id] if server else []
        # The chain's driver first, or it would take the end of its stage for a failure.
        for one in (found.id, *below):
            _give_up(ledger, one)
            if server is not None:
                server.stop(one)
    return _one(found.id, jobs(address))


@contextmanager
def _server(address: str | None) -> Iterator[RayJobs | None]:
    try:
        url = check_address(address)
    except Unavailable:
        if address is not None:
            raise
        yield None
        return
    with job_server(url) as server:
        server.probe()
        yield server


def _give_up(ledger: Ledger, id: str) -> None:
    # Entered before the job is told to end: what its process then says of itself no longer counts, and its fence holds.
    for step in ledger.active():
        if step.submission_id == id:
            event = Failed(
                now=time.time(), attempt=step.state.attempt, cause="stopped by `raymlops jobs stop`", final=True
            )
            ledger.advance(step, event, limits=Limits(attempts=1, timeout_s=0), running=0)


def _one(id: str, found: list[Job]) -> Job:
    known = tuple(job.id for job in found)
    matching = [job for job in found if job.id == id] or [job for job in found if id and job.id.startswith(id)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise NotFound(f"job {id!r}: begins the ids of {', '.join(job.id for job in matching)}; give more of it")
    raise NotFound(f"job {id!r}: was never submitted{suggestion(id, known)}; `raymlops jobs list` shows what was")


def _job(id: str, step: Step | None, ray: RayJob | None) -> Job:
    metadata = ray.metadata if ray else {}
    number = id.rpartition("-a")[2]
    return Job(
        id=id,
        stage=step.stage if step else metadata.get("raymlops", ""),
        name=step.name if step else metadata.get("name", ""),
        state=step.state.phase if step else _state(metadata, ray),
        ray_status=ray.state if ray else "missing",
        attempt=int(number) if number.isdigit() else 1,
        started=_first(
            step.started if step else None, ray.started if ray else None, step.state.since if step else None
        ),
        finished=_first(step.finished if step else None, ray.finished if ray else None),
        cause=step.state.cause if step else "",
        outputs=step.outputs if step else (),
    )


def _with_schedule(found: list[Job], schedule: Schedule) -> list[Job]:
    """Say of the job that keeps a schedule when it is due; add one where none keeps it."""
    due = schedule.due.replace(tzinfo=UTC).timestamp() if schedule.due else None
    keeps = [job.id.startswith(f"{schedule.driver}-a") and job.ray_status in ("pending", "running") for job in found]
    if any(keeps):
        return [replace(job, due=due) if kept else job for job, kept in zip(found, keeps, strict=True)]
    held = bool(schedule.state.holder) and time.time() < schedule.state.expires
    own = Job(
        id=schedule.driver, stage="schedule", name=schedule.name, state="held" if held else "idle",
        ray_status="missing", attempt=0, started=None, finished=None, cause="", outputs=(), due=due,
    )  # fmt: skip
    return [*found, own]


def _state(metadata: dict[str, str], ray: RayJob | None) -> str:
    if ray is None:
        return "missing"
    if metadata.get("identity") and (held := Ledger().find(metadata["identity"])) is not None:
        return "superseded" if held.submission_id != ray.id else held.state.phase
    return "done" if ray.state == "succeeded" else ray.state


def _first(*moments: float | None) -> float | None:
    return next((moment for moment in moments if moment), None)
