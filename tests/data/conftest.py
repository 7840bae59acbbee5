"""A home of its own for each test, and a small table."""

from pathlib import Path

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
