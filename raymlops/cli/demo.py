"""The demo: the main job end to end, for any spec; it wires stages and shows what they say. Knows no data."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raymlops import cluster, train
from raymlops.cli.compare import compare
from raymlops.cli.shown import closing
from raymlops.cluster import LocalCluster
from raymlops.errors import SpecError
from raymlops.report import write_page
from raymlops.spec import Spec, home, load
from raymlops.submit import submit
from raymlops.telemetry import say
from raymlops.values import JsonValue

__all__ = ["run"]

_CHAIN = ("train", "optimize", "score", "serve", "monitor")
_ROWS = 2_000
_AGAIN, _HOLDOUT = ("recent", "history"), "holdout"


@dataclass(slots=True)
class _Peak:
    """The largest memory that the cluster and this process held together, in bytes of proportional set size."""

    size_bytes: int = 0
    stop: threading.Event = field(default_factory=threading.Event)


def run(path: Path, *, cpus: int | None = None) -> tuple[dict[str, JsonValue], str]:
    """Run every stage through the job layer on a cluster that lives as long as the demo; return result and text.

    What an earlier run finished is skipped. If the spec has a window `holdout`, the champion's configuration is fitted
    again to the windows `recent` and `history`, and judged on the hold-out beside the champion.
    """
    start = time.monotonic()
    if not path.is_file():
        raise SpecError(f"{path}: is not a file; run the demo in a checkout, or name a spec of yours")
    spec = load(path)
    say(f"demo: artefacts in {home()}")
    say("demo: check")
    train.check(spec)
    with _cluster(cpus) as (running, peak):
        steps = _chain(path, running, _CHAIN)
        again = _again(spec, path, running, champion=str(steps["train"]["model"]))
        served = steps["serve"]
        say(f"demo: {_ROWS:,} scored rows through the client")
        comparison = compare(spec, steps["score"], url=str(served["url"]), rows=_ROWS)
    places = _places(steps)
    page = home() / "report" / f"{spec.name}.html"
    result: dict[str, Any] = {
        **steps, "again": again, "comparison": comparison, "seconds": time.monotonic() - start,
        "peak_bytes": peak.size_bytes, "places": [*places, ("the page", _near(page))],
    }  # fmt: skip
    write_page(page, spec, result)
    result["seconds"] = time.monotonic() - start
    return result, closing(spec, result)


def _chain(path: Path, running: LocalCluster, stages: tuple[str, ...], *arguments: str) -> dict[str, Any]:
    done = submit(stages, path, address=running.dashboard, follow=True, arguments=arguments)
    for step in done:
        say(f"demo: {step.stage} {step.state}, {step.seconds:.1f} s")
    return {step.stage: step.result for step in done}


def _again(spec: Spec, path: Path, running: LocalCluster, *, champion: str) -> list[dict[str, Any]]:
    made = []
    for window in _AGAIN if _HOLDOUT in spec.data.windows else ():
        if window in spec.data.windows:
            say(f"demo: the champion's configuration again, fitted on {window!r}, judged on {_HOLDOUT!r}")
            words = ("--model", champion, "--on", window, "--validate", _HOLDOUT)
            made.append(_chain(path, running, ("train",), *words)["train"])
    return made


def _places(steps: dict[str, Any]) -> list[tuple[str, str]]:
    store = f"sqlite:///{_near(home() / 'mlflow' / 'mlflow.db')}"
    return [
        ("MLflow: every trial and version", f"mlflow ui --backend-store-uri {store}"),
        ("the scores", _near(_where(steps["score"]["source"]))),
        ("the drift and quality of each month", _near(steps["monitor"]["outputs"][0])),
        ("the engines", _near(steps["optimize"]["outputs"][0])),
    ]


def _near(path: str | Path) -> str:
    """Return the path as a person in this folder would type it."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _where(source: Any) -> str:
    """Return the path or table of a sink from the source that reads it back."""
    options = next(iter(source.values())) if isinstance(source, dict) else source
    return options if isinstance(options, str) else str(options.get("path", options.get("url")))


@contextmanager
def _cluster(cpus: int | None) -> Iterator[tuple[LocalCluster, _Peak]]:
    say("demo: starting a local Ray cluster")
    running = cluster.start(cpus=cpus, tied=True)
    peak = _Peak()
    watcher = threading.Thread(target=_watch, args=(running, peak), daemon=True)
    watcher.start()
    try:
        yield running, peak
    finally:
        peak.stop.set()
        say("demo: stopping the cluster")
        cluster.stop(running)
        watcher.join()


def _watch(running: LocalCluster, peak: _Peak) -> None:
    import psutil

    own = psutil.Process()
    while not peak.stop.wait(2.0):
        peak.size_bytes = max(peak.size_bytes, cluster.memory_bytes(running.marker) + own.memory_info().rss)
