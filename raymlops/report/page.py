"""The page: one self-contained HTML text of what a model's life has shown. Knows nothing of how it was measured."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raymlops.codec import write_aside
from raymlops.report import words
from raymlops.report.input import ReportInput, report_input
from raymlops.report.plots import heat_map, most_drifted, quality, sweep
from raymlops.spec import Spec

__all__ = ["page", "write_page"]

_WIDTHS = {"wide": 720, "narrow": 344}


def page(evidence: ReportInput) -> str:
    """Return one HTML document: no script, no font or image from elsewhere; the same input gives the same text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        count=words.count,
        value=words.value,
        ms=words.milliseconds,
        size=words.size,
        difference=words.difference,
    )
    return environment.get_template("page.html").render(
        name=evidence.name,
        quality=_quality(evidence),
        drift=_drift(evidence),
        sweep=_sweep(evidence.sweep),
        engines=_engines(evidence.optimize),
        scores=evidence.scores,
        comparison=evidence.comparison,
        agreement=words.binding(evidence.comparison) if evidence.comparison else "",
        places=evidence.places,
        facts=evidence.facts,
    )


def write_page(path: Path, spec: Spec, result: Mapping[str, Any]) -> None:
    """Write the page of a spec's stages; `result` holds what each stage returned, by its name."""
    write_aside(path, page(report_input(spec.name, result)).encode())


def _quality(evidence: ReportInput) -> dict[str, Any] | None:
    monitor, retrained = evidence.monitor, evidence.retrained
    if monitor is None or not monitor["periods"]:
        return None
    again = [{entry["period"]: entry["metric"] for entry in made["periods"]} for made in retrained]
    drawn = any(entry["metric"] is not None for entry in monitor["periods"])
    return {
        "model": monitor["model"],
        "last": _last(evidence),
        "retrained": [{"on": made["on"], "model": made["model"]} for made in retrained],
        "metric": words.metric_name(monitor["metric"]),
        "judged": words.judged(monitor["metric"]),
        "validation": monitor["validation"],
        "finding": words.quality_finding(monitor, retrained),
        "plots": _both(lambda width: quality(monitor, retrained, width=width)) if drawn else {},
        "periods": [{**entry, "again": [held.get(entry["period"]) for held in again]} for entry in monitor["periods"]],
        "reasons": list(dict.fromkeys(entry["reason"] for entry in monitor["periods"] if entry.get("reason"))),
        "unlabelled": sum(entry["rows"] - entry["labelled"] for entry in monitor["periods"]),
    }


def _last(evidence: ReportInput) -> dict[str, Any] | None:
    """The newest period with a metric, and the best retraining of that period."""
    assert evidence.monitor is not None
    entry = next((one for one in reversed(evidence.monitor["periods"]) if one["metric"] is not None), None)
    if entry is None:
        return None
    sign = 1 if words.judged(evidence.monitor["metric"]).startswith("higher") else -1
    again = [
        (sign * one["metric"], made["on"], one["metric"])
        for made in evidence.retrained
        for one in made["periods"]
        if one["period"] == entry["period"] and one["metric"] is not None
    ]
    return {**entry, "best": {"on": max(again)[1], "metric": max(again)[2]} if again else None}


def _drift(evidence: ReportInput) -> dict[str, Any] | None:
    periods = (evidence.monitor or {}).get("periods", ())
    if not periods or not periods[0]["drift"]:
        return None
    tests = list(next(iter(periods[0]["drift"].values())))
    test = "psi" if "psi" in tests else tests[0]
    features = most_drifted(periods, test=test)
    limits = [entry["drift"][name][test]["limit"] for entry in periods for name in features]
    return {
        "test": test,
        "limit": min(limits),
        "raised": sum(limit > min(limits) for limit in limits),
        "cells": len(limits),
        "finding": words.drift_finding(periods),
        "plots": _both(lambda width: heat_map(periods, test=test, width=width)),
        "left_out": len(periods[0]["drift"]) - len(features),
    }


def _sweep(made: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if made is None or not made["trials"]:
        return None
    metric, winner = made["metric"], made["winner"]
    trials = [{**trial, "metric": _metric_of(trial, metric)} for trial in made["trials"]]
    best = next((trial for trial in trials if trial["index"] == winner), None)
    trainers = list(dict.fromkeys(trial["trainer"] for trial in trials))
    return {
        "metric": words.metric_name(metric),
        "trials": len(trials),
        "failed": sum(trial["metric"] is None for trial in trials),
        "trainers": trainers,
        "best": best,
        "params": sorted((best or {}).get("params", {}).items()),
        "seconds": sum(trial.get("seconds") or 0.0 for trial in trials),
        "plots": _both(lambda width: sweep(trials, metric=metric, winner=winner, width=width)),
    }


def _metric_of(trial: Mapping[str, Any], metric: str) -> float | None:
    """A trial carries its metric alone or among all metrics; a failed trial has none."""
    found = trial.get("metric", trial.get("metrics", {}).get(metric))
    return found if isinstance(found, int | float) else None


def _engines(made: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if made is None or not made["table"]:
        return None
    rows = [_engine(row, str(made.get("rows", 1))) for row in made["table"]]
    return {
        "metric": words.metric_name(made.get("metric", "metric")),
        "rows": made.get("rows", 1),
        "budget": made.get("budget"),
        "reason": made["reason"],
        "table": rows,
        "versions": len({row["version"] for row in rows}),
    }


def _engine(row: Mapping[str, Any], rows: str) -> dict[str, Any]:
    latency = row.get("latency", {})
    timed: Mapping[str, float] = latency.get(rows) or next(iter(latency.values()), {})
    verdict = row["verdict"]
    return {
        "version": row["version"],
        "label": " ".join([row["engine"], *(str(option) for option in row["options"].values())]),
        "chosen": verdict == "chosen",
        # A message begins with the folder it is about; the row says which engine and version it is.
        "verdict": re.sub(r"^/\S+: ", "", {"kept": "within budget"}.get(verdict, verdict)),
        "value": row.get("value"),
        "fall": row.get("fall"),
        "difference": row.get("difference"),
        "p50_ms": timed.get("p50_ms"),
        "p99_ms": timed.get("p99_ms"),
        "size_bytes": row.get("size_bytes"),
    }


def _both(draw: Any) -> dict[str, Any]:
    """The drawings are ours, every text in them escaped by the SVG writer: they are not escaped again."""
    from markupsafe import Markup

    return {name: Markup(draw(width)) for name, width in _WIDTHS.items()}
