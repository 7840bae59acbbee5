"""The laws that every kind of engine passes, for kinds of this package and of others. Knows no engine.

A test of a kind is one call: `check_engine(MyEngine(), version, sample)`; a broken law is an AssertionError.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from raymlops.codec import digest_folder
from raymlops.protocols import Engine, Predictor
from raymlops.values import Float32

__all__ = ["check_engine", "check_predictor"]


def check_engine(engine: Engine, version: Path, sample: Float32, *, tolerance: float = 1e-5) -> None:
    """Compile twice and check every law; ``sample`` is [rows, features], 8 rows at least, missing values allowed.

    Answers may differ by ``tolerance`` of the largest answer, or of 1 if that is larger: sums in another order.
    """
    assert len(sample) >= 8, f"the laws need a sample of at least 8 rows, {len(sample)} given"
    assert 0 <= engine.gpus() <= 1, f"a process needs {engine.gpus()!r} of a GPU; 0 for none, at most 1 is allowed"
    before = digest_folder(version)
    with TemporaryDirectory(prefix="raymlops-laws-") as folder:
        first, second = Path(folder) / "first", Path(folder) / "second"
        for artefact in (first, second):
            artefact.mkdir()
            engine.compile(version, artefact, sample=sample)
        predictor = engine.load(version, first, threads=1)
        check_predictor(predictor, sample, tolerance=tolerance)
        answers = predictor.predict(sample)
        again = engine.load(version, second, threads=1).predict(sample)
        _same(again, answers, 0.0, "compiling again from the same words gives other answers")
        wide = engine.load(version, first, threads=2).predict(sample)
        _same(wide, answers, tolerance, "the number of threads changes the answers")
    assert digest_folder(version) == before, "the engine wrote into the version's folder, which is content-addressed"


def check_predictor(predictor: Predictor, sample: Float32, *, tolerance: float = 1e-5) -> None:
    """Check the laws of one predictor; the arguments are those of `check_engine`."""
    given = sample.copy()
    answers = predictor.predict(sample)
    kept = answers.copy()
    _shaped(answers, len(sample))
    assert np.array_equal(sample, given, equal_nan=True), "predict changed the rows that it was given"
    _same(predictor.predict(sample), kept, 0.0, "the same rows get other answers when asked again")
    _same(answers, kept, 0.0, "an answer changed when the next was asked for: it is a view of a shared buffer")
    order = np.arange(len(sample))[::-1]
    _same(predictor.predict(np.ascontiguousarray(sample[order]))[order], kept, tolerance, "the order of rows matters")
    for size in (1, 3, len(sample) - 1):
        parts = [predictor.predict(sample[start : start + size]) for start in range(0, len(sample), size)]
        _same(np.concatenate(parts), kept, tolerance, f"batches of {size} rows get other answers")
    empty = predictor.predict(sample[:0])
    assert empty.shape == (0, *kept.shape[1:]), f"no rows got answers of shape {empty.shape}"
    assert empty.dtype == np.float32, f"no rows got answers of type {empty.dtype}"
    _shaped(predictor.predict(np.full_like(sample[:2], np.nan)), 2)
    _one_of_many(predictor, sample, kept, tolerance)


def _shaped(answers: Float32, rows: int) -> None:
    assert isinstance(answers, np.ndarray), f"answers are {type(answers).__name__}, an array is needed"
    assert answers.dtype == np.float32, f"answers are {answers.dtype}, float32 is needed"
    assert answers.ndim in (1, 2), f"answers have {answers.ndim} dimensions, 1 or 2 are needed"
    assert len(answers) == rows, f"{rows} rows got {len(answers)} answers"
    assert np.isfinite(answers).all(), "an answer is not finite"
    if answers.ndim == 2:
        assert np.allclose(answers.sum(axis=1), 1, atol=1e-4), "the shares of the classes do not add up to 1"


def _one_of_many(predictor: Predictor, sample: Float32, answers: Float32, tolerance: float) -> None:
    """Ask from four threads at once, each for other rows, as a server does."""
    parts = [slice(start, start + len(sample) // 4) for start in range(0, len(sample) // 4 * 4, len(sample) // 4)]
    with ThreadPoolExecutor(len(parts)) as pool:
        for part, given in zip(parts * 8, pool.map(lambda p: predictor.predict(sample[p]), parts * 8), strict=True):
            _same(given, answers[part], tolerance, "threads that ask at once get other answers")


def _same(given: Float32, expected: Float32, tolerance: float, law: str) -> None:
    assert given.shape == expected.shape, f"{law}: shape {given.shape}, not {expected.shape}"
    allowed = tolerance * max(1.0, float(np.abs(expected).max(initial=0.0)))
    difference = float(np.abs(given - expected).max(initial=0.0))
    assert difference <= allowed, f"{law}: they differ by {difference:.3g}, allowed is {allowed:.3g}"
