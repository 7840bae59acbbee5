"""The contestants of the scoring benchmark as child processes, in rounds, and whether they answer alike.

Knows nothing of bars.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow.dataset
from environment import rivals_python
from score_work import Part, forget

__all__ = [
    "Measures",
    "NotMeasured",
    "check_answers",
    "command",
    "floor",
    "ours",
    "program",
    "recorded",
    "resumed",
    "rival",
    "rounds",
]

_HERE = Path(__file__).parent
_LONGEST_S = 3_600
Measures = dict[str, float]


class NotMeasured(Exception):  # noqa: N818 - reads as what happened
    """A contestant failed, or did something else than what is measured."""


def rounds(calls: Mapping[str, Callable[[], Measures]], count: int) -> dict[str, Measures]:
    """Return the median of each measure of each call, over rounds in which each runs once."""
    taken: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in calls}
    for _ in range(count):
        for name, call in calls.items():
            for measure, value in call().items():
                taken[name][measure].append(value)
    return {name: {measure: median(values) for measure, values in found.items()} for name, found in taken.items()}


def program(script: str, *words: object, python: Path | str = sys.executable, **variables: str) -> Measures:
    """Run a program of this folder; return what it prints and `whole`, its seconds from start to end."""
    given = [str(python), str(_HERE / script), *map(str, words)]
    start = time.perf_counter()
    done = subprocess.run(given, capture_output=True, text=True, timeout=_LONGEST_S, env={**os.environ, **variables})
    whole = time.perf_counter() - start
    if done.returncode:
        raise NotMeasured(f"{' '.join(given)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return {**json.loads(done.stdout.splitlines()[-1]), "whole": whole}


def floor(name: str, model: Path, part: Part, out: Path) -> Measures:
    """Run a floor, with the packages of raymlops."""
    return program("score_rivals.py", name, model, part.rows, out)


def rival(name: str, model: Path, part: Part, out: Path) -> Measures:
    """Run a rival, with the packages of the rivals."""
    return program("score_rivals.py", name, model, part.rows, out, python=rivals_python())


def ours(part: Part, *, role: str = "ours") -> Measures:
    """Score from a connected cluster, as if for the first time."""
    forget()
    return program("score_ours.py", role, part.spec)


def command(part: Part, *, fresh: bool = True) -> Measures:
    """Run the command of a user; `fresh`: as if for the first time."""
    if fresh:
        forget()
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "raymlops", "score", str(part.spec)], check=True, capture_output=True)
    return {"whole": time.perf_counter() - start}


def resumed(part: Part, *, share: float) -> Measures:
    """Kill a driver when the share of the pieces is recorded, and score on: no piece may be recorded twice."""
    forget()
    words = [sys.executable, str(_HERE / "score_ours.py"), "ours", str(part.spec)]
    driver = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + _LONGEST_S
    while driver.poll() is None and len(recorded()) < int(share * part.files):
        if time.monotonic() > deadline:
            driver.kill()
            raise NotMeasured(f"{part.spec}: takes over {_LONGEST_S} s")
        time.sleep(0.005)
    driver.kill()
    if driver.wait() not in (0, -signal.SIGKILL):
        raise NotMeasured(f"{part.spec}: the driver ended with {driver.returncode} before it was killed")
    done = len(recorded())
    if done == part.files:
        return resumed(part, share=share)  # too late: it was done before it was killed
    taken = program("score_ours.py", "ours", part.spec)
    if len(recorded()) != part.files:
        raise NotMeasured(f"{part.files} pieces, {len(recorded())} recorded: one was scored twice or failed")
    return {**taken, "left": part.files - done}


def recorded() -> list[bytes]:
    """Return a line for each piece that was scored in any attempt since all was forgotten."""
    records = (Path(os.environ["RAYMLOPS_HOME"]) / "runs").glob("*/*/pieces-*.jsonl")
    return [line for path in sorted(records) for line in path.read_bytes().splitlines()]


def check_answers(folders: Sequence[Path]) -> None:
    """Raise NotMeasured unless all have answered the same rows with the same float32 numbers, those of raymlops too."""
    scores = Path(os.environ["RAYMLOPS_HOME"]) / "scores"
    expected = _answers(scores)
    for folder in folders:
        found = _answers(folder)
        if any(not np.array_equal(found[name], expected[name]) for name in expected):
            raise NotMeasured(f"{folder.name}: answers other rows or other numbers than raymlops")


def _answers(folder: Path) -> dict[str, np.ndarray]:
    files = sorted(str(path) for path in folder.rglob("*.parquet"))
    table = pyarrow.dataset.dataset(files, format="parquet").to_table(columns=["id", "probability"])
    ids = table.column("id").to_numpy()
    order = np.argsort(ids, kind="stable")
    return {"id": ids[order], "probability": table.column("probability").to_numpy()[order].astype(np.float32)}
