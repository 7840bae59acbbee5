"""A job of its own that drives others, so that they go on when who submitted it ends. Knows nothing of stages."""

import time
from collections.abc import Sequence
from typing import Literal

from raymlops.errors import Conflict
from raymlops.submit.follow import Setting, StepResult
from raymlops.telemetry import say

__all__ = ["CHAIN", "drive"]

# The driver's id, in its environment and that of the jobs that it submits: they are stopped with it.
CHAIN = "RAYMLOPS_CHAIN"


def drive(
    setting: Setting,
    kind: Literal["chain", "schedule"],
    *,
    identity: str,
    stages: Sequence[str],
    options: Sequence[str] = (),
    arguments: Sequence[str] = (),
) -> StepResult:
    """Submit a job that runs `raymlops submit STAGES SPEC --follow`, or attach to one that does.

    Conflict: one of this identity runs for another spec.
    """
    begun, place, server = time.time(), setting.place, setting.server
    prefix = f"{kind}-{identity[:12]}-a"
    before = [job for job in server.jobs() if job.id.startswith(prefix)]
    attempt = max((int(job.id.removeprefix(prefix)) for job in before), default=0)
    running = next((job for job in before if job.state in ("pending", "running")), None)
    id = running.id if running else f"{prefix}{attempt + 1}"
    if running:
        other = running.metadata.get("spec", str(place.spec))
        if other != str(place.spec):
            raise Conflict(f"{kind}: {id} runs for {other}; end it with `raymlops jobs stop {id}`, then submit again")
        say(f"{kind}: runs already ({id})")
    else:
        words = [place.python, "-m", "raymlops", "submit", *stages, str(place.spec), "--follow"]
        words += ["--address", server.url, *options, *(f"--argument={word}" for word in arguments)]
        server.submit(
            id,
            place.entrypoint(words),
            variables={CHAIN: id} | place.variables(),
            metadata={
                "raymlops": kind,
                "name": setting.spec.name,
                "stages": ",".join(stages),
                "spec": str(place.spec),
            },
            working_dir=place.working_dir(server),
        )
        say(f"{kind}: submitted ({id}); see `raymlops jobs logs {id}`")
    return StepResult(
        stage=kind,
        identity=identity,
        state="attached" if running else "submitted",
        attempt=int(id.removeprefix(prefix)),
        submission_id=id,
        seconds=time.time() - begun,
    )
