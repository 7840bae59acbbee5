"""Sweeps in MLflow: a parent run, a nested run for each trial. A run is found, not doubled.

One thread writes, so trials never wait for MLflow, and runs never mix. What it could not write while MLflow was away is
written later; whoever runs the sweep keeps the trials, and tells of all of them when it runs again.
"""

import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from raymlops.errors import Unavailable
from raymlops.registry.mlflow_client import client, tracking_uri
from raymlops.spec import home
from raymlops.telemetry import say
from raymlops.values import JsonValue

__all__ = ["Run", "Tracker"]

_PAUSE_S = 2.0  # after a failure, before MLflow is asked again
_LIMIT_S = 60.0  # that `settle` waits for MLflow to come back


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is recorded of a trial; ``key`` names it in its sweep. Without metrics it failed."""

    key: str
    name: str
    params: Mapping[str, JsonValue]
    metrics: Mapping[str, float]
    tags: Mapping[str, str] = field(default_factory=dict)


class Tracker:
    """Record one sweep. Recording a trial again finds the run that is there, so that a resumed sweep adds nothing."""

    def __init__(self, *, name: str, sweep: str, tags: Mapping[str, str]) -> None:
        self.name, self.sweep, self.tags = name, sweep, dict(tags)
        self._waiting: queue.SimpleQueue[Run | None] = queue.SimpleQueue()
        self._told: set[str] = set()
        self._runs: dict[str, str] = {}
        self._begun: dict[str, str] = {}
        self._parent: tuple[str, str] | None = None
        self._problem = ""
        self._gives_up = threading.Event()
        self._writer = threading.Thread(target=self._write_all, name="tracker", daemon=True)

    def record(self, run: Run) -> None:
        """Let a trial be recorded; the same key again is nothing new."""
        if run.key in self._told:
            return
        self._told.add(run.key)
        self._waiting.put(run)
        if not self._writer.is_alive():
            self._writer.start()

    def settle(self, *, limit_s: float = _LIMIT_S) -> dict[str, str]:
        """Wait until all is recorded; return the id of the run of each key. Nothing can be recorded afterwards.

        Raise Unavailable when MLflow stays away for ``limit_s`` seconds.
        """
        self._waiting.put(None)
        if self._told:
            written, deadline = -1, 0.0
            while self._writer.is_alive() and (written != len(self._runs) or time.monotonic() < deadline):
                if written != len(self._runs):  # it goes on: the limit is for silence
                    written, deadline = len(self._runs), time.monotonic() + limit_s
                self._writer.join(timeout=0.2)
            self._gives_up.set()
            self._writer.join(timeout=_PAUSE_S)
            missing = len(self._told - set(self._runs))
            if missing:
                raise Unavailable(
                    f"MLflow at {tracking_uri()}: {missing} of {len(self._told)} runs could not be recorded: "
                    f"{self._problem or 'it does not answer'}; nothing of the sweep is lost, run the same command again"
                )
        return dict(self._runs)

    def close(self, *, metric: str, value: float, winner: int) -> None:
        """Record what the sweep came to, on its parent run."""
        _, parent = self._place()
        client().log_metric(parent, metric, value)
        client().set_tag(parent, "raymlops.winner", str(winner))
        client().set_terminated(parent)

    def _write_all(self) -> None:
        while (run := self._waiting.get()) is not None:
            while not self._gives_up.is_set():
                try:
                    self._write(run)
                    break
                except Exception as error:  # noqa: BLE001 - MLflow's clients raise what their transports do
                    if not self._problem:
                        say(f"tracking: MLflow at {tracking_uri()} is away, what it missed is recorded later: {error}")
                    self._problem = " ".join(str(error).split())[:300]
                    self._gives_up.wait(_PAUSE_S)
            else:
                return

    def _write(self, run: Run) -> None:
        from mlflow.entities import Metric, Param

        experiment, parent = self._place()
        if run.key in self._runs:
            return
        tags = {**run.tags, "raymlops.sweep": self.sweep, "raymlops.trial": run.key, "mlflow.parentRunId": parent}
        made = self._begun.get(run.key) or _started(experiment, run.name, tags)
        client().log_batch(
            made,
            metrics=[Metric(name, value, 0, 0) for name, value in run.metrics.items()],
            params=[Param(name, str(value)[:6000]) for name, value in run.params.items()],
        )
        client().set_terminated(made, "FINISHED" if run.metrics else "FAILED")
        self._runs[run.key] = made

    def _place(self) -> tuple[str, str]:
        """Return the experiment and the parent run, and learn which runs are there, the first time."""
        if self._parent is None:
            experiment = _experiment(self.name)
            self._begun, there = _found(experiment, self.sweep)
            parent = (
                self._begun.get("parent")
                or there.pop("parent", None)
                or _started(
                    experiment,
                    f"sweep {self.sweep[:8]}",
                    {**self.tags, "raymlops.sweep": self.sweep, "raymlops.trial": "parent"},
                )
            )
            self._runs |= there
            self._parent = experiment, parent
        return self._parent


def _experiment(name: str) -> str:
    there = client().get_experiment_by_name(name)
    if there:
        return str(there.experiment_id)
    artifacts = (home() / "mlflow" / "artifacts" / name).as_uri()
    return str(client().create_experiment(name, artifact_location=artifacts))


def _found(experiment: str, sweep: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the runs of a sweep by key: those that were cut short while they were written, and the whole ones."""
    begun: dict[str, str] = {}
    whole: dict[str, str] = {}
    token: str | None = None
    while True:
        page: Any = client().search_runs(
            [experiment], f"tags.`raymlops.sweep` = '{sweep}'", max_results=1000, page_token=token
        )
        for run in page:
            of = whole if run.info.status in ("FINISHED", "FAILED") else begun
            of.setdefault(str(run.data.tags["raymlops.trial"]), str(run.info.run_id))
        token = page.token
        if not token:
            return begun, whole


def _started(experiment: str, name: str, tags: Mapping[str, str]) -> str:
    return str(client().create_run(experiment, run_name=name, tags=dict(tags)).info.run_id)
