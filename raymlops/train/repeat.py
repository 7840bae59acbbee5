"""Whether the best trial of a sweep comes out again: it is fitted a second time. Knows nothing of the others."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from raymlops.codec import digest_file
from raymlops.engine import load_format
from raymlops.train.fit import Setting
from raymlops.train.sweep import Result, Trial
from raymlops.train.trial import read_result, trial_folder, try_trial
from raymlops.values import Float32

__all__ = ["repeated"]

_TOLERANCE = 1e-6


def repeated(winner: Result, sweep: Path, setting: Callable[[], Setting]) -> str:
    """Return the verdict: "bit-equal", "equal within 1e-06 of the scale", or "not repeatable" and why.

    The second fit runs in this process, with the threads of the first, once: its files stay beside the sweep's.
    """
    trial = Trial(index=winner.index, trainer=winner.trainer, options=winner.options, seed=winner.seed, point={})
    again = sweep / "again"
    result = read_result(again, winner.index) or try_trial(trial, replace(setting(), sweep=again))
    if result.cause:
        return f"not repeatable: the second fit failed, {result.cause}"
    first = trial_folder(sweep, winner.index, winner.rung)
    second = trial_folder(again, winner.index)
    if _digests(first) == _digests(second):
        return "bit-equal"
    mine, theirs = (_answers(folder, setting()) for folder in (first, second))
    scale = max(1.0, float(np.abs(mine).max(initial=0.0)))
    difference = float(np.abs(mine - theirs).max(initial=0.0)) / scale
    if difference <= _TOLERANCE:
        return f"equal within {_TOLERANCE:g} of the scale"
    return f"not repeatable: answers of the two fits differ by {difference:.2g} of the scale"


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: digest_file(path) for path in folder.iterdir() if path.name != "result.json"}


def _answers(folder: Path, setting: Setting) -> Float32:
    return load_format(folder).load(folder, threads=setting.threads).predict(np.ascontiguousarray(setting.valid.x))
