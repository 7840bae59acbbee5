"""Load a TensorRT plan, first in a process of its own, because a bad one ends the process. Knows nothing of building.

As a program, `python -m raymlops.engine.probe VERSION ARTEFACT MODULE ROWS LIMIT`, it is that process: it loads the
plan and asks it for the rows that the artefact keeps beside the native answers to them.
"""

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np

from raymlops.engine.captured import BATCHES, captured
from raymlops.engine.graph import largest_difference
from raymlops.engine.model import read_model
from raymlops.engine.plan import Module, network_of, open_plan
from raymlops.errors import EngineError, RaymlopsError
from raymlops.protocols import Predictor
from raymlops.values import Float32

__all__ = ["PLAN", "keep_rows", "load_plan", "tried"]

PLAN = "model.plan"
_ROWS, _ANSWERS = "probe_x.npy", "probe_y.npy"
_SECONDS = 300


def keep_rows(artefact: Path, rows: Float32, answers: Float32) -> None:
    """Write what a plan is tried with: rows [n, features], 1 at least, and the native answers to them."""
    np.save(artefact / _ROWS, rows, allow_pickle=False)
    np.save(artefact / _ANSWERS, answers, allow_pickle=False)


def load_plan(version: Path, artefact: Path, *, module: Module, most_rows: int) -> Predictor:
    """Return the plan on this process's GPU, a graph captured for each batch size that it was built for."""
    model = read_model(version)
    opened = open_plan((artefact / PLAN).read_bytes(), module=module, where=str(version))
    return captured(
        network_of(opened, answer_shape=model.answer_shape, where=str(version)),
        features=model.features,
        answer_shape=model.answer_shape,
        where=str(version),
        batches=(*(size for size in BATCHES if size < most_rows), most_rows),
    )


def tried(version: Path, command: Sequence[str]) -> None:
    """Run Python with the command's words; raise EngineError, which says how it ended, unless it ended well."""
    try:
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise EngineError(
            f"{version}: the plan was tried in a process of its own for {_SECONDS} s, too long"
        ) from error
    if done.returncode:
        code = done.returncode
        how = f"signal {signal.Signals(-code).name} ended it" if code < 0 else f"it ended with {code}"
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise EngineError(f"{version}: the plan was tried in a process of its own, {how}: {said}")


def _main(words: Sequence[str]) -> str:
    """Return what is wrong with the plan, nothing if it answers as it should."""
    version, artefact, module, most_rows, limit = words
    rows, expected = (np.load(Path(artefact) / name, allow_pickle=False) for name in (_ROWS, _ANSWERS))
    try:
        made = load_plan(Path(version), Path(artefact), module=cast("Module", module), most_rows=int(most_rows))
        difference = largest_difference(made.predict(rows), expected)
    except RaymlopsError as error:
        return " ".join(str(error).split())
    wrong = not difference <= float(limit)
    return f"its answers differ from native by {difference:.2g} of the scale, at most {limit} is allowed" * wrong


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]) or 0)
