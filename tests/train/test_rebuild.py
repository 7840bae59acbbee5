"""A version is made again from what it says of itself, bit for bit, and what differs is named."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymlops import registry
from raymlops.codec import dumps
from raymlops.errors import SpecError
from raymlops.spec import Spec, parse
from raymlops.train import rebuild, run
from raymlops.values import Version

TRAINERS = {
    "xgboost": "{rounds: 40, patience: 3}",
    "pytorch": "{epochs: 4, patience: 1}",
    "sklearn": "{n_estimators: 10}",
}


def spec_of(folder: Path, trainer: str) -> Spec:
    return parse(
        f"name: again\ndata: {{source: {{parquet: {folder / 'rows.parquet'}}}, label: y, key: [id]}}\n"
        f"train: {{repeat: false, trainers: {{{trainer}: {{options: {TRAINERS[trainer]}}}}}}}"
    )


def write_rows(folder: Path, *, seed: int = 0) -> None:
    random = np.random.default_rng(seed)
    x = random.normal(size=(2_000, 3)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] + random.normal(size=len(x)) > 0).astype(np.int64)
    columns: dict[str, Any] = {f"f{j}": x[:, j] for j in range(3)}
    pq.write_table(pa.table({**columns, "y": y, "id": np.arange(len(x))}), folder / "rows.parquet")


def trained(folder: Path, trainer: str) -> Version:
    made: Any = run(spec_of(folder, trainer))
    return registry.resolve(str(made["model"]))


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_version_is_made_again_bit_for_bit(trainer: str, home: Path, tmp_path: Path) -> None:
    write_rows(tmp_path)
    made = rebuild(trained(tmp_path, trainer))
    assert made.files == made.changed == ()
    assert made.verdict == "bit-equal"


def test_other_rows_make_another_model_and_are_named(home: Path, tmp_path: Path) -> None:
    write_rows(tmp_path)
    version = trained(tmp_path, "xgboost")
    write_rows(tmp_path, seed=1)
    made = rebuild(version)
    assert made.files == ("model.ubj",)
    assert made.verdict == "not the same: model.ubj differ; the rows of data.source are not those it was fitted on"


def test_other_packages_are_named_though_the_bytes_came_again(home: Path, tmp_path: Path) -> None:
    write_rows(tmp_path)
    version = trained(tmp_path, "xgboost")
    files = {path.name: path.read_bytes() for path in version.path.iterdir()}
    lineage = json.loads(files["lineage.json"])
    older = {**lineage, "packages": {**lineage["packages"], "xgboost": "1.0"}}
    digest, path = registry.store_folder({**files, "lineage.json": dumps(older)})
    made = rebuild(replace(version, digest=digest, path=path))
    assert made.files == ()
    assert made.changed == (f"xgboost was 1.0 and is {lineage['packages']['xgboost']}",)


def test_a_version_that_does_not_say_how_it_was_made_is_refused(home: Path) -> None:
    digest, path = registry.store_folder({"model.json": b"{}"})
    version = registry.register("bare", digest=digest, path=path, run_id=None, tags={})
    with pytest.raises(SpecError, match=r"bare@1: has no lineage\.json"):
        rebuild(version)


def test_two_versions_are_told_apart_by_place(home: Path, tmp_path: Path) -> None:
    write_rows(tmp_path)
    first, second = (trained(tmp_path, trainer) for trainer in ("xgboost", "pytorch"))
    found = {one.place: one for one in registry.diff(first, second)}
    assert (found["model.trainer"].before, found["model.trainer"].after) == ("xgboost", "pytorch")
    assert found["model.params.max_depth"].after == "nothing"
    assert found["evaluation.metrics.auc"].before != found["evaluation.metrics.auc"].after
    assert not [place for place in found if place.startswith("contract")]
    assert registry.diff(first, first) == []
