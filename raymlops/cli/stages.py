"""Run one stage here and now: as a command, or as a Ray job that the job layer started."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from raymlops import cluster
from raymlops.errors import SpecError
from raymlops.plugins import suggestion
from raymlops.spec import home, load
from raymlops.submit import attempt
from raymlops.telemetry import say
from raymlops.values import JsonValue

__all__ = ["STAGES", "run_stage", "using_cluster"]

STAGES = ("train", "optimize", "score", "serve", "monitor")
_ON_RAY = ("train", "score")


def run_stage(
    stage: str, path: Path, *, options: dict[str, Any], served: Callable[[dict[str, JsonValue]], None] | None = None
) -> dict[str, JsonValue]:
    """Run a stage of the spec at `path` on the local cluster, or on one that lives as long as the stage.

    `served` is called with the result while the cluster is still up, if the cluster ends with the stage.
    """
    if stage not in STAGES:
        raise SpecError(f"stage {stage!r}: unknown{suggestion(stage, STAGES)}, known are {', '.join(STAGES)}")
    spec = load(path)
    # One home for the driver and what it starts: a worker of a plain Ray job would look for one of its own.
    os.environ["RAYMLOPS_HOME"] = str(home())
    with attempt() as fence:
        body: Callable[..., dict[str, JsonValue]] = import_module(f"raymlops.{stage}").run
        body = partial(body, spec, **options, may_commit=fence.may_commit)
        if stage != "serve":
            result = body(on_cluster=partial(using_cluster, jobs=False)) if stage in _ON_RAY else body()
            fence.finish(result)
            return result
        with using_cluster() as (dashboard, lasting):
            result = body(dashboard=dashboard)
            fence.finish(result)
            if served is not None and not lasting:
                served(result)
    return result


@contextmanager
def using_cluster(*, jobs: bool = True) -> Iterator[tuple[str, bool]]:
    """Hold a connection to Ray; give the dashboard's URL and whether the cluster outlives this process.

    Without `jobs` a cluster that is started for this process alone has no dashboard, and lies within it.
    """
    from raymlops.cluster.on_ray import connect, embedded

    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        with connect() as dashboard:
            yield dashboard, True
        return
    there = cluster.attached()
    if there is not None:
        with connect(there) as dashboard:
            yield dashboard, True
        return
    say("cluster: none is up, starting one for this command")
    if not jobs:
        with embedded():
            yield "", False
        return
    own = cluster.start(tied=True)
    try:
        with connect(own) as dashboard:
            yield dashboard, False
    finally:
        cluster.stop(own)
