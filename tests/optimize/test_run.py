"""The stage from a registry and a file of rows to the choice that the engine room reads."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymlops import registry
from raymlops.codec import dumps
from raymlops.data import examples, infer_contract
from raymlops.engine import chosen, fallback, predictor
from raymlops.errors import Conflict, NotFound, SpecError, StageFailed
from raymlops.optimize import run
from raymlops.spec import Spec
from raymlops.train.trainers.pytorch import Pytorch
from raymlops.train.trainers.xgboost import Xgboost
from raymlops.values import Version


def table() -> pa.Table:
    random = np.random.default_rng(0)
    rows = 1500
    distance, colour = random.gamma(2, 300, rows), random.integers(0, 4, rows)
    wait = np.where(random.random(rows) < 0.1, np.nan, random.normal(20, 5, rows))
    late = 0.004 * distance + np.nan_to_num(wait) * 0.1 + 2.0 * (colour == 2) + random.normal(0, 1, rows) > 5
    columns = {"id": np.arange(rows), "distance": distance, "wait": wait, "late": late.astype(np.int64)}
    return pa.table({**columns, "colour": pa.array([f"c{i}" for i in colour])})


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("optimize")
    pq.write_table(table(), folder / "rows.parquet")
    return folder


@pytest.fixture
def home(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAYMLOPS_HOME", str(root / "home"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return root / "home"


def spec_of(root: Path, **optimize: Any) -> Spec:
    return Spec.model_validate(
        {
            "name": "late",
            "data": {"source": {"parquet": str(root / "rows.parquet")}, "label": "late", "key": ["id"]},
            "train": {"trainers": {"xgboost": {}}},
            "optimize": {"budget": {"error": 0.05, "p99_ms": 500}, **optimize},
        }
    )


@pytest.fixture
def versions(root: Path, home: Path) -> dict[str, Version]:
    spec = spec_of(root)
    contract = infer_contract(spec, on="train")
    train = examples(spec, on="train", contract=contract)
    made = {}
    trainers: dict[str, Any] = {
        "pytorch": Pytorch(hidden=(16,), epochs=5, batch_size=64),
        "xgboost": Xgboost(rounds=20, max_depth=3),
    }
    for name, trainer in trainers.items():
        fitted = trainer.fit(
            train, None, categories=contract.category_counts, task="binary", classes=2, seed=0, threads=1
        )
        described = {
            "format": fitted.format,
            "task": "binary",
            "classes": 2,
            "features": len(contract.features),
            "categories": list(contract.category_counts),
            "params": fitted.params,
        }
        files = {
            **fitted.files,
            "model.json": dumps(described),
            "contract.json": dumps(contract.to_json()),
            "evaluation.json": dumps({"metric": "auc"}),
        }
        digest, path = registry.store_folder(files)
        made[name] = registry.register("late", digest=digest, path=path, run_id=None, tags={})
    registry.tag_finalists("late", made)
    registry.promote(f"late@{made['xgboost'].number}")
    return made


def test_the_stage_measures_every_engine_of_every_finalist_and_writes_the_choices(
    root: Path, versions: dict[str, Version], capsys: pytest.CaptureFixture[str]
) -> None:
    commits: list[str] = []
    made: Any = run(spec_of(root), may_commit=lambda: commits.append("asked"))
    assert commits == ["asked"]
    assert made["model"] == str(versions["xgboost"])
    rows = {(row["version"], row["engine"], *row["options"].values()): row for row in made["table"]}
    assert len(rows) == 6
    trees, network = str(versions["xgboost"]), str(versions["pytorch"])
    assert "nothing to quantize" in rows[trees, "onnxruntime", "int8"]["problem"]
    assert rows[trees, "native"]["fall"] == rows[trees, "native"]["difference"] == 0
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
