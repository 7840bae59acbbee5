"""A fit of a network that a crash broke off goes on from where it was kept, and comes to the same bytes."""

import multiprocessing
import socket
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.optim.optimizer import register_optimizer_step_post_hook  # noqa: E402

from raymlops.contract import Contract, Feature, Label  # noqa: E402
from raymlops.data import Fold  # noqa: E402
from raymlops.protocols import Fitted  # noqa: E402
from raymlops.train import Trial  # noqa: E402
from raymlops.train.fit import Setting  # noqa: E402
from raymlops.train.trainers.pytorch import Pytorch  # noqa: E402
from raymlops.train.trial import run_trial, trial_folder  # noqa: E402
from raymlops.values import Examples, Group, JsonValue  # noqa: E402

TRAINER = Pytorch(hidden=(8,), epochs=5, batch_size=20, dropout=0.3, learning_rate=0.02, patience=2)
ROWS, EPOCH = 1_000, 50  # steps


class _CrashError(Exception):
    """What stands for the end of the process."""


def _rows(seed: int, rows: int = ROWS) -> Examples:
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, 3)).astype(np.float32)
    return Examples(x=x, y=(x[:, 0] + 0.5 * random.normal(size=rows) > 0).astype(np.float64))


def _fit(kept: Path, crash_at: int | None, group: Group | None = None, every_s: float = 0.0) -> tuple[bytes, int]:
    """Fit until a step; return the model's bytes, none after a crash, and how many steps were made."""
    rows, model = _rows(1 if group is None else group.rank, ROWS if group is None else ROWS // group.size), b""
    with _until(crash_at) as steps, pytest.MonkeyPatch.context() as patch:
        patch.setattr("raymlops.train.descent._EVERY_S", every_s)
        with TRAINER.joined(group) if group else nullcontext():
            made: Fitted = TRAINER.fit(
                rows, _rows(2), kept=kept, categories=(0, 0, 0), task="binary", classes=2, seed=3, threads=1
            )
        model = made.files["model.safetensors"]
    return model, len(steps)


@contextmanager
def _until(crash_at: int | None) -> Iterator[list[None]]:
    """Let the block crash after a step of any optimizer, and end with that; one is in the list for each step."""
    steps: list[None] = []

    def count(*_: object) -> None:
        steps.append(None)
        if len(steps) == crash_at:
            raise _CrashError

    hook = register_optimizer_step_post_hook(count)
    try:
        with suppress(_CrashError):
            yield steps
    finally:
        hook.remove()


@pytest.mark.parametrize("crash_at", [1, 15, EPOCH, EPOCH + 3, 3 * EPOCH - 1])
def test_it_goes_on_from_where_it_was_kept_to_the_same_bytes(tmp_path: Path, crash_at: int) -> None:
    whole, steps = _fit(tmp_path / "whole", None)
    plain = TRAINER.fit(_rows(1), _rows(2), categories=(0, 0, 0), task="binary", classes=2, seed=3, threads=1)
    assert whole == plain.files["model.safetensors"], "to keep it changes nothing"
    assert _fit(tmp_path / "broken", crash_at) == (b"", crash_at)
    again, left = _fit(tmp_path / "broken", None)
    assert again == whole
    assert steps - crash_at <= left < steps - crash_at + 16
    assert len(list((tmp_path / "broken").iterdir())) == 1, "what was kept before is gone"


def test_what_is_not_due_is_not_kept(tmp_path: Path) -> None:
    _fit(tmp_path / "kept", 3 * EPOCH, every_s=3600.0)
    assert not (tmp_path / "kept").exists()


def _together(kept: Path, crash_at: tuple[int | None, int | None]) -> list[tuple[bytes, int]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as processes:
        waited = [
            processes.submit(_fit, kept, at, Group(rank=rank, size=2, host="127.0.0.1", port=port))
            for rank, at in enumerate(crash_at)
        ]
        return [one.result(timeout=60) for one in waited]


def test_processes_that_fit_together_go_on_together(tmp_path: Path) -> None:
    (whole, steps), (other, _) = _together(tmp_path / "whole", (None, None))
    assert whole == other
    _together(tmp_path / "broken", (EPOCH + 20, EPOCH + 20))
    newest = max((tmp_path / "broken").glob("*.1.safetensors"))
    newest.with_name(newest.name.replace(".1.", ".0.")).unlink()  # as if rank 0 had died before it kept this one
    behind = f"{10**9 + 32:019}"
    for rank, (files, _) in enumerate(_together(tmp_path / "early", (40, 40))):
        assert not files
        (tmp_path / "early" / f"{behind}.{rank}.safetensors").rename(
            tmp_path / "broken" / f"{behind}.{rank}.safetensors"
        )
    (again, left), _ = _together(tmp_path / "broken", (None, None))
    assert again == whole
    assert left == steps - 32, "from the last state that both have kept"


@pytest.mark.parametrize("folds", [0, 2])
def test_a_trial_goes_on_and_forgets_what_was_kept_when_it_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folds: int
) -> None:
    monkeypatch.setattr("raymlops.train.descent._EVERY_S", 0.0)
    features = tuple(Feature(name=name, type="number", nullable=False) for name in "abc")
    contract = Contract(features=features, label=Label(name="y", task="binary", classes=("0", "1")))
    parts = np.array_split(np.arange(ROWS), folds) if folds else []
    made = tuple(Fold(fit=np.setdiff1d(np.arange(ROWS), part), judge=part) for part in parts)
    setting = Setting(
        train=_rows(1), valid=_rows(2), contract=contract, sweep=tmp_path, threads=1, stop_early=False, folds=made
    )
    options: dict[str, JsonValue] = {"hidden": [8], "epochs": 2, "batch_size": 20}
    trial = Trial(index=3, trainer="pytorch", options=options, seed=1, point={})
    whole = _steps_of(trial, replace(setting, sweep=tmp_path / "whole"), None)
    crash_at = whole - 3
    assert _steps_of(trial, setting, crash_at) == crash_at
    assert any((tmp_path / "kept" / "00003-0").iterdir())
    assert _steps_of(trial, setting, None) < EPOCH, "not even one fit was begun anew"
    assert not list((tmp_path / "kept").iterdir())
    one, other = (trial_folder(sweep, 3) / "model.safetensors" for sweep in (tmp_path, tmp_path / "whole"))
    assert one.read_bytes() == other.read_bytes()


def _steps_of(trial: Trial, setting: Setting, crash_at: int | None) -> int:
    """Run a trial until a step, or to its end; return how many were made."""
    with _until(crash_at) as steps:
        run_trial(trial, setting)
    return len(steps)
