"""Sweeps in MLflow: a parent run, a nested run for each trial. One process writes; a run is found, not doubled."""

from collections.abc import Mapping

from raymlops.registry.mlflow_client import client
from raymlops.spec import home
from raymlops.values import JsonValue

__all__ = ["Tracker"]


class Tracker:
    """Record one sweep. Recording a trial again finds the run that is there, so that a resumed sweep adds nothing."""

    def __init__(self, *, name: str, sweep: str, tags: Mapping[str, str]) -> None:
        self.sweep = sweep
        self.experiment = _experiment(name)
        self.parent = _found(self.experiment, sweep, "parent") or _run(
            self.experiment, f"sweep {sweep[:8]}", {**tags, "raymlops.sweep": sweep, "raymlops.trial": "parent"}
        )

    def trial(
        self, index: int, *, trainer: str, params: Mapping[str, JsonValue], metrics: Mapping[str, float], seconds: float
    ) -> str:
        """Record a trial with its parameters and metrics; return the id of its run."""
        from mlflow.entities import Metric, Param

        # A trial that failed and then ended well is a run of its own: the failed one stays as it was.
        there = _found(self.experiment, self.sweep, str(index), finished=bool(metrics))
        if there:
            return there
        run = _run(
            self.experiment, f"{trainer} {index}",
            {"raymlops.sweep": self.sweep, "raymlops.trial": str(index), "mlflow.parentRunId": self.parent},
        )  # fmt: skip
        values = {**metrics, "seconds": seconds}
        client().log_batch(
            run,
            metrics=[Metric(name, value, 0, 0) for name, value in values.items()],
            params=[Param("trainer", trainer), *(Param(name, str(value)) for name, value in params.items())],
        )
        client().set_terminated(run, "FINISHED" if metrics else "FAILED")
        return run

    def close(self, *, metric: str, value: float, winner: int) -> None:
        """Record what the sweep came to, on its parent run."""
        client().log_metric(self.parent, metric, value)
        client().set_tag(self.parent, "raymlops.winner", str(winner))
        client().set_terminated(self.parent)


def _experiment(name: str) -> str:
    there = client().get_experiment_by_name(name)
    if there:
        return str(there.experiment_id)
    artifacts = (home() / "mlflow" / "artifacts" / name).as_uri()
    return str(client().create_experiment(name, artifact_location=artifacts))


def _found(experiment: str, sweep: str, trial: str, *, finished: bool = False) -> str | None:
    query = f"tags.`raymlops.sweep` = '{sweep}' and tags.`raymlops.trial` = '{trial}'"
    query += " and attributes.status = 'FINISHED'" if finished else ""
    runs = client().search_runs([experiment], query, max_results=1)
    return str(runs[0].info.run_id) if runs else None


def _run(experiment: str, name: str, tags: Mapping[str, str]) -> str:
    return str(client().create_run(experiment, run_name=name, tags=dict(tags)).info.run_id)
