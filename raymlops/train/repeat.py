"""Whether the best trial of a sweep comes out again: it is fitted a second time. Knows nothing of the others."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from raymlops.codec import digest_file
from raymlops.engine import load_format
from raymlops.train.fit import Setting
from raymlops.train.sweep import Result, Trial
from raymlops.train.trial import sweep_of, trial_folder
from raymlops.values import Float32

__all__ = ["repeated"]

_TOLERANCE = 1e-6


def repeated(
    winner: Result, sweep: Path, setting: Callable[[], Setting], run: Callable[[Sequence[Trial]], Sequence[Result]]
) -> str:
    """Return the verdict: "bit-equal", "equal within 1e-06 of the scale", or "not repeatable" and why.

    The second fit is run once, by what runs the trials of the sweep: its files stay beside the sweep's.
    """
    trial = Trial(
        index=winner.index, trainer=winner.trainer, options=winner.options, seed=winner.seed, point={}, again=True
    )
    (result,) = run([trial])
    if result.cause:
        return f"not repeatable: the second fit failed, {result.cause}"
    first = trial_folder(sweep, winner.index, winner.rung)
    second = trial_folder(sweep_of(sweep, trial), winner.index)
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
