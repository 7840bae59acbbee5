"""The stage from a registry and a file of rows to the choice that the engine room reads."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raymlops.engine import chosen, fallback, predictor
from raymlops.errors import Conflict, NotFound, SpecError, StageFailed
from raymlops.optimize import run
from raymlops.values import Version
from tests.optimize.conftest import spec_of


def test_the_stage_measures_every_engine_of_every_finalist_and_writes_the_choices(
    root: Path, versions: dict[str, Version], capsys: pytest.CaptureFixture[str]
) -> None:
    commits: list[str] = []
    made: Any = run(spec_of(root), may_commit=lambda: commits.append("asked"))
    assert commits == ["asked"]
    assert made["model"] == str(versions["xgboost"])
    rows = {(row["version"], row["engine"], row["options"].get("precision", "")): row for row in made["table"]}
    assert len(rows) == 6
    trees, network = str(versions["xgboost"]), str(versions["pytorch"])
    assert "nothing to quantize" in rows[trees, "onnxruntime", "int8"]["problem"]
    assert rows[trees, "native", ""]["fall"] == rows[trees, "native", ""]["difference"] == 0
    assert rows[trees, "onnxruntime", "float32"]["difference"] < 1e-5
    assert 0 < rows[network, "onnxruntime", "int8"]["difference"] < 0.5
    for row in rows.values():
        assert "problem" in row or {*row["latency"]} == {"1", "256"}
    verdicts = [row["verdict"] for row in rows.values()]
    assert verdicts.count("chosen") == 2
    (name, options), *_ = made["choice"].items()
    assert chosen(versions["xgboost"]) == (name, options)
    others = [
        name for one in fallback(versions["xgboost"]) if isinstance(one, dict) for name in one
    ]  # int8 could not be built
    assert sorted([name, *others]) == ["native", "onnxruntime"]
    assert "fastest within the budget at 1 row a request" in made["reason"]
    assert all(Path(path).is_file() for path in made["outputs"])
    document = json.loads(Path(made["outputs"][0]).read_bytes())
    assert set(document["choices"]) == {trees, network}
    assert predictor(versions["pytorch"]).predict(np.zeros((2, 3), np.float32)).shape == (2,)
    shown = capsys.readouterr()
    assert "onnxruntime int8" in shown.err
    assert shown.out == ""


def test_a_budget_that_no_engine_keeps_fails_with_every_reason_and_changes_nothing(
    root: Path, versions: dict[str, Version]
) -> None:
    before = chosen(versions["xgboost"])
    with pytest.raises(StageFailed, match="no engine of late@") as caught:
        run(spec_of(root, engines=["native", {"onnxruntime": "int8"}], budget={"p99_ms": 1e-9}))
    assert "p99 of one row is" in str(caught.value)
    assert "nothing to quantize" in str(caught.value)
    assert chosen(versions["xgboost"]) == before


def test_what_leaves_a_share_out_is_smaller_and_judged_like_any_other(root: Path, versions: dict[str, Version]) -> None:
    half: Any = {"onnxruntime": {"prune": 0.5}}
    made: Any = run(spec_of(root, engines=["native", "onnxruntime", half], budget={"error": 1e-6, "p99_ms": 500}))
    for version in map(str, versions.values()):
        whole, less = (row for row in made["table"] if row["version"] == version and row["engine"] == "onnxruntime")
        assert less["options"]["prune"] == 0.5
        assert less["size_bytes"] < whole["size_bytes"]
        assert less["latency"]["1"]["p50_ms"] > 0
        if less["fall"] > 1e-6:
            assert less["verdict"].startswith(f"metric falls by {less['fall']:.3g}, over budget.error=1e-06")
        else:
            assert less["verdict"] in ("chosen", "kept")


def test_an_engine_by_size_is_measured_and_chosen_like_any_other(root: Path, versions: dict[str, Version]) -> None:
    by_size: Any = {"by_size": {"rows": 100}}
    made: Any = run(spec_of(root, engines=[by_size], rows=256))
    row = next(row for row in made["table"] if row["version"] == str(versions["xgboost"]))
    assert row["verdict"] == "chosen"
    assert row["difference"] == 0  # of as many rows as there are, native answers
    assert chosen(versions["xgboost"]) == ("by_size", {"small": "onnxruntime", "large": "native", "rows": 100})


def test_a_later_attempt_that_took_over_keeps_this_one_from_writing(
    root: Path, home: Path, versions: dict[str, Version]
) -> None:
    choice = home / "engines" / versions["xgboost"].digest / "choice.json"
    before = choice.read_bytes() if choice.exists() else b""

    def refuse() -> None:
        raise Conflict("a later attempt runs")

    with pytest.raises(Conflict):
        run(spec_of(root, engines=["native"], rows=7), may_commit=refuse)
    assert (choice.read_bytes() if choice.exists() else b"") == before


def test_the_version_asked_for_is_the_one_that_is_answered_about(root: Path, versions: dict[str, Version]) -> None:
    made = run(spec_of(root, engines=["native"]), model=f"late@{versions['pytorch'].number}")
    assert made["model"] == str(versions["pytorch"])
    assert made["choice"] == {"native": {}}
    assert chosen(versions["pytorch"]) == ("native", {})


def test_what_cannot_be_optimized_is_said_before_any_work(root: Path, home: Path) -> None:
    with pytest.raises(SpecError, match="name at least `native`"):
        run(spec_of(root, engines=[]))
    with pytest.raises(NotFound, match="is not registered"):
        run(spec_of(root), model="nothing@1")
