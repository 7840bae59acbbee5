"""The commands of the job layer and of the local cluster."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from raymlops.cli.border import JsonFlag, border, out
from raymlops.cli.stages import STAGES
from raymlops.errors import SpecError
from raymlops.plugins import suggestion
from raymlops.submit import Job

__all__ = ["doctor", "down", "jobs", "status", "submit", "up"]

Address = Annotated[str | None, typer.Option(help="The cluster's job server, as http://HOST:8265; else the local one.")]
JobId = Annotated[str, typer.Argument(metavar="ID")]

jobs = typer.Typer(help="What was submitted.", no_args_is_help=True)


def submit(
    stages_and_spec: Annotated[list[str], typer.Argument(metavar="STAGE… SPEC")],
    address: Address = None,
    follow: Annotated[bool, typer.Option("--follow", help="Wait, show the logs, fail as the stage fails.")] = False,
    once: Annotated[
        bool, typer.Option("--once", help="Score the periods of score.every that are due now, then end.")
    ] = False,
    since: Annotated[
        datetime | None, typer.Option(help="Where a new schedule begins, in UTC; else with the period under way.")
    ] = None,
    argument: Annotated[
        list[str] | None, typer.Option(help="A word for the command of each stage, as --argument=--model=churn@3.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Run stages as Ray jobs, in order; what runs is attached to, what is done is skipped.

    `submit score` alone, of a spec with score.every, starts its schedule; with --follow it is kept here, until Ctrl-C.
    """
    from raymlops.spec import load
    from raymlops.submit import keep_schedule, start_schedule
    from raymlops.submit import submit as run

    with border(as_json=as_json):
        *stages, spec = stages_and_spec
        wrong = [f"stage {stage!r}: unknown{suggestion(stage, STAGES)}, known are {', '.join(STAGES)}"
                 for stage in stages if stage not in STAGES]  # fmt: skip
        if wrong or not stages:
            raise SpecError(*(wrong or [f"submit: name one stage or more before the spec: {', '.join(STAGES)}"]))
        if load(spec).score.every is None or stages != ["score"]:
            if once or since:
                raise SpecError("submit: --once and --since are for `submit score` of a spec with score.every")
            steps = run(stages, Path(spec), address=address, follow=follow, arguments=argument or ())
        elif argument:
            raise SpecError("submit: --argument is not for a schedule, whose periods give the words of each run")
        elif follow or once:
            steps = keep_schedule(Path(spec), address=address, since=since, once=once)
        else:
            steps = [start_schedule(Path(spec), address=address, since=since)]
        lines = [f"{step.stage:<9} {step.state:<9} {step.submission_id}  {step.seconds:.1f} s" for step in steps]
        out([asdict(step) for step in steps], as_json=as_json, text="\n".join(lines))


@jobs.command("list")
def list_(address: Address = None, as_json: JsonFlag = False) -> None:
    """List what was submitted, newest first."""
    from raymlops.submit import jobs as found

    with border(as_json=as_json):
        rows = found(address)
        lines = [f"{job.id:<32} {job.stage:<9} {job.state:<8} {_detail(job)}" for job in rows]
        out([asdict(job) for job in rows], as_json=as_json, text="\n".join(lines) or "nothing was submitted")


def _detail(job: Job) -> str:
    if job.due is not None:
        return f"{job.name}, next due {datetime.fromtimestamp(job.due, UTC):%Y-%m-%d %H:%M} UTC"
    return f"attempt {job.attempt}  {job.name}  {job.cause[:80]}".rstrip()


@jobs.command()
def show(job: JobId, address: Address = None, as_json: JsonFlag = False) -> None:
    """Show one job; if it failed, its cause."""
    from raymlops.submit import show as found

    with border(as_json=as_json):
        row = asdict(found(job, address))
        out(row, as_json=as_json, text="\n".join(f"{name:<12} {value}" for name, value in row.items()))


@jobs.command()
def logs(job: JobId, address: Address = None, as_json: JsonFlag = False) -> None:
    """Print a job's log."""
    from raymlops.submit import logs as found

    with border(as_json=as_json):
        text = found(job, address)
        out({"id": job, "log": text}, as_json=as_json, text=text)


@jobs.command()
def stop(job: JobId, address: Address = None, as_json: JsonFlag = False) -> None:
    """Stop a job."""
    from raymlops.submit import stop as stopped

    with border(as_json=as_json):
        row = stopped(job, address)
        out(asdict(row), as_json=as_json, text=f"{row.id} is {row.state}")


def up(
    cpus: Annotated[int | None, typer.Option(help="CPUs of the cluster; else all of this machine.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port of the dashboard and job server; else 8265 or a free one.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Start the local cluster and leave it running."""
    from raymlops import cluster

    with border(as_json=as_json):
        made = cluster.start(cpus=cpus, dashboard_port=port)
        exports = "\n".join(f"export {name}={value}" for name, value in cluster.environment(made).items())
        text = f"cluster is up: {made.dashboard}\nfor plain `ray job submit --address {made.dashboard}`:\n{exports}"
        out({"dashboard": made.dashboard, "gcs": made.gcs, "pid": made.pid, "environment": cluster.environment(made)},
            as_json=as_json, text=text)  # fmt: skip


def down(as_json: JsonFlag = False) -> None:
    """End the local cluster; no process is left behind."""
    from raymlops import cluster

    with border(as_json=as_json):
        ended = cluster.stop()
        out({"stopped": ended}, as_json=as_json, text="cluster is down" if ended else "no cluster was up")


def status(as_json: JsonFlag = False) -> None:
    """Say whether the local cluster is up, and where."""
    from raymlops import cluster

    with border(as_json=as_json):
        there = cluster.attached()
        result = {"up": there is not None, "dashboard": there.dashboard if there else None}
        out(result, as_json=as_json, text=f"cluster is up: {there.dashboard}" if there else "no cluster is up")


def doctor(as_json: JsonFlag = False) -> None:
    """Look over this machine; exit 3 if something that is needed is missing."""
    from raymlops import cluster

    with border(as_json=as_json):
        found = cluster.findings()
        lines = [f"{'ok ' if one.ok else 'NO '} {one.what}{'' if one.ok else ': ' + one.advice}" for one in found]
        out([asdict(one) for one in found], as_json=as_json, text="\n".join(lines))
        if not all(one.ok for one in found):
            raise typer.Exit(3)
