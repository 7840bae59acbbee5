"""A home of its own for each test, a small table, and steps of the file system that fail."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYMLOPS_HOME", str(tmp_path / "home"))


@pytest.fixture
def rows() -> pa.Table:
    random = np.random.default_rng(0)
    x = random.normal(size=1000)
    return pa.table({
        "id": np.arange(1000), "x": x, "colour": random.choice(["red", "blue", "green"], 1000),
        "y": (x + random.normal(size=1000) > 0).astype(int),
    })  # fmt: skip


class _Failing:
    """Let the n-th call of the file system's writing steps fail, and count them."""

    def __init__(self, patch: pytest.MonkeyPatch, fail_at: int) -> None:
        self.calls, self.fail_at = 0, fail_at
        for name in ("fsync", "replace", "rename"):
            patch.setattr(os, name, self._counted(getattr(os, name)))
        patch.setattr(Path, "replace", lambda path, target: os.replace(path, target))

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            self.calls += 1
            if self.calls == self.fail_at:
                raise OSError(28, "No space left on device")
            return real(*given)

        return call


@pytest.fixture
def failing_steps() -> type[_Failing]:
    """What lets one step fail: called with a patch and the number of the step."""
    return _Failing
