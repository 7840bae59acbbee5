"""A version is renewed by newer rows only if rows that it has not seen say so; rebuilt, it is the same bit for bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymlops import registry
from raymlops.errors import DataError, SpecError
from raymlops.spec import Spec, parse
from raymlops.train import rebuild, run

ROWS = 6_000


def write_rows(folder: Path, *, turns: float = 0.0, shift: float = 0.0, noise: bool = False) -> None:
    """Write days 0 to 599; from day 300 on x is `shift` larger, and what follows from it is turned by `turns`.

    With `noise`, labels of days 300 to 459 mean nothing.
    """
    random = np.random.default_rng(0)
    day = np.sort(random.integers(600, size=ROWS))
    late = day >= 300
    x = random.normal(size=(ROWS, 2))
    x[late, 0] += shift
    angle = np.where(late, turns, 0.0)
    signal = np.cos(angle) * x[:, 0] + np.sin(angle) * x[:, 1] + 0.6 * np.maximum(x[:, 0] - 1, 0) ** 2
    score = signal + 0.3 * random.normal(size=ROWS)
    y = score > 0.5
    if noise:
        lost = (day >= 300) & (day < 460)
        y[lost] = random.random(lost.sum()) < 0.5
    days = np.datetime64("2020-01-01") + day
    pq.write_table(
        pa.table({"a": x[:, 0], "b": x[:, 1], "y": y, "score": score, "day": days, "id": np.arange(ROWS)}),
        folder / "rows.parquet",
    )


def spec_of(folder: Path, trainers: str, *, label: str = "y") -> Spec:
    return parse(
        f"name: renewed\ndata: {{source: {{parquet: {folder / 'rows.parquet'}}}, label: {label}, key: [id], time: day, "
        f"exclude: [{'score' if label == 'y' else 'y'}], windows: {{train: [2020-01-01, 2020-09-01],"
        " valid: [2020-09-01, 2020-10-27], recent: [2020-10-27, 2021-06-01], newest: [2021-06-01, 2021-09-01]}}\n"
        f"train: {{repeat: false, trainers: {trainers}}}"
    )


XGBOOST = "{xgboost: {options: {rounds: 40, max_depth: 3}}}"
NETWORK = "{pytorch: {options: {hidden: [8], epochs: 6, batch_size: 64, learning_rate: 0.01}}}"


@pytest.mark.parametrize("trainers", [XGBOOST, NETWORK], ids=["xgboost", "pytorch"])
def test_a_model_that_goes_on_learns_what_changed(home: Path, tmp_path: Path, trainers: str) -> None:
    write_rows(tmp_path, turns=1.0)
    spec = spec_of(tmp_path, trainers)
    first: Any = run(spec)
    made: Any = run(spec, model=first["model"], how="continue", on="recent", validate="newest")
    assert made["kept"] is True
    assert made["gain"]["value"] > 0.01
    assert made["blocks"][0]["rows"] > 100
    assert len(made["blocks"]) == 4
    assert made["blocks"][0]["gain"] == 0.0  # it has learned nothing yet
    version = registry.resolve(made["model"])
    assert version.number == 2
    assert registry.resolve("renewed").number == 1
    assert rebuild(version).verdict == "bit-equal"
    assert run(spec, model=first["model"], how="continue", on="recent", validate="newest")["model"] == made["model"]


def test_what_makes_it_worse_is_undone(home: Path, tmp_path: Path) -> None:
    write_rows(tmp_path, noise=True)
    spec = spec_of(tmp_path, "{xgboost: {options: {rounds: 40, max_depth: 6, learning_rate: 0.5}}}")
    first: Any = run(spec)
    before = registry.listed("renewed")
    made: Any = run(spec, model=first["model"], how="continue", on="recent", validate="newest")
    assert (made["kept"], made["model"]) == (False, None)
    assert made["gain"]["value"] < 0
    assert registry.listed("renewed") == before


LINEAR = "{sklearn: {options: {estimator: linear}}}"


def test_weights_are_kept_where_a_model_that_is_too_simple_gains_by_them(home: Path, tmp_path: Path) -> None:
    """A straight line through a curve: where x is larger now, another line is the best one."""
    write_rows(tmp_path, shift=1.5)
    spec = spec_of(tmp_path, LINEAR, label="score")
    first: Any = run(spec)
    made: Any = run(spec, model=first["model"], how="adapt", on="train", validate="newest")
    assert made["kept"] is True
    assert made["gain"]["low"] > 0
    assert made["effective_share"] < 0.6
    assert rebuild(registry.resolve(made["model"])).verdict == "bit-equal"


def test_where_nothing_shifted_the_plain_fit_is_registered(home: Path, tmp_path: Path) -> None:
    write_rows(tmp_path)
    spec = spec_of(tmp_path, LINEAR, label="score")
    first: Any = run(spec)
    made: Any = run(spec, model=first["model"], how="adapt", on="train", validate="newest")
    assert made["kept"] is False
    assert made["effective_share"] > 0.7
    plain, again = (registry.resolve(one) for one in (first["model"], made["model"]))
    assert (plain.path / "model.onnx").read_bytes() == (again.path / "model.onnx").read_bytes()
    assert rebuild(again).verdict == "bit-equal"


def test_versions_are_joined_where_together_they_are_better(home: Path, tmp_path: Path) -> None:
    """Forests of two trees, each with its own chance: together they are six trees."""
    write_rows(tmp_path)
    spec = spec_of(tmp_path, "{sklearn: {options: {n_estimators: 2}}}", label="score")
    seeded = [spec.model_copy(update={"train": spec.train.model_copy(update={"seed": seed})}) for seed in (1, 2, 3)]
    members = [str(run(one)["model"]) for one in seeded]
    made: Any = run(spec, model=members[0], how="join", members=members, on="recent", validate="newest")
    assert made["kept"] is True
    assert made["gain"]["low"] > 0
    assert sum(made["weights"].values()) == pytest.approx(1.0, abs=1e-4)
    version = registry.resolve(made["model"])
    assert rebuild(version).verdict == "bit-equal"


def test_what_cannot_be_renewed_is_refused(home: Path, tmp_path: Path) -> None:
    write_rows(tmp_path)
    spec = spec_of(tmp_path, LINEAR)
    first = str(run(spec)["model"])
    with pytest.raises(SpecError, match="trainer sklearn cannot go on from a model; use --how again"):
        run(spec, model=first, how="continue", on="recent", validate="newest")
    with pytest.raises(SpecError, match="1 version given, at least 2"):
        run(spec, model=first, how="join", on="recent", validate="newest")
    with pytest.raises(SpecError, match="name it with --model"):
        run(spec, how="adapt")
    trees = spec_of_few(tmp_path)
    with pytest.raises(DataError, match="few"):
        run(trees, model=str(run(trees)["model"]), how="continue", on="few", validate="newest")


def spec_of_few(folder: Path) -> Spec:
    made = spec_of(folder, XGBOOST)
    days, counts = np.unique(pq.read_table(folder / "rows.parquet").column("day").to_numpy(), return_counts=True)
    day = days[np.argmin(counts)].astype("datetime64[D]")
    few = made.data.window(f"{day}/{day + 1}", where="few")
    return made.model_copy(update={"data": made.data.model_copy(update={"windows": {**made.data.windows, "few": few}})})
