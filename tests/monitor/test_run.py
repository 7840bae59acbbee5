"""The stage reads a scored run, joins late labels, and leaves evidence that can be made again."""

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymlops.codec import dumps
from raymlops.contract import infer, profile_table
from raymlops.data.sinks.delta import Delta
from raymlops.data.sinks.parquet import Parquet
from raymlops.errors import Conflict, DataError, NotFound
from raymlops.monitor import watch
from raymlops.protocols import Sink
from raymlops.spec import Spec
from raymlops.values import Version

ROWS = 400


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAYMLOPS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def _data(*, seed: int = 0) -> pa.Table:
    random = np.random.default_rng(seed)
    size = random.normal(size=ROWS)
    return pa.table(
        {
            "id": np.arange(ROWS),
            "at": [date(2020, 1 + i // 100, 1 + i % 28) for i in range(ROWS)],
            "size": size + np.where(np.arange(ROWS) >= 300, 3.0, 0.0),
            "kind": random.choice(["a", "b"], ROWS).tolist(),
            "bad": [None if i % 10 == 0 else int(size[i] > 0) for i in range(ROWS)],
        }
    )


def _spec(path: Path, **sections: Any) -> Spec:
    data = {
        "source": {"parquet": str(path)},
        "label": "bad",
        "key": ["id"],
        "time": "at",
        "windows": {
            "train": [date(2020, 1, 1), date(2020, 3, 1)],
            "valid": [date(2020, 3, 1), date(2020, 4, 1)],
            "production": [date(2020, 3, 1), date(2020, 5, 1)],
        },
        **sections.pop("data", {}),
    }
    return Spec.model_validate({"name": "toy", "data": data, "train": {"trainers": {"xgboost": {}}}, **sections})


def _version(folder: Path, rows: pa.Table) -> Version:
    trained = rows.slice(0, 200)
    contract = infer(trained, features=["size", "kind"], label="bad", key=["id"])
    folder.mkdir(parents=True)
    profile = {name: column.to_json() for name, column in profile_table(contract, trained).items()}
    (folder / "contract.json").write_bytes(dumps(contract.to_json()))
    (folder / "profile.json").write_bytes(dumps(profile))
    (folder / "evaluation.json").write_bytes(dumps({"metric": "auc", "value": 0.9, "on": "valid", "rows": 100}))
    return Version(name="toy", number=1, digest="d" * 64, path=folder)


def _scores(
    home: Path,
    parts: list[pa.Table],
    *,
    run: str = "r1",
    finished: str = "2020-06-01T00:00:00Z",
    rows_of: str = "rows.parquet",
) -> None:
    folder, made = home / "runs" / "toy" / run, home / "scores" / "toy" / run
    folder.mkdir(parents=True)
    made.mkdir(parents=True)
    for index, part in enumerate(parts):
        pq.write_table(part, made / f"part-{index}.parquet")
    rows = sum(part.num_rows for part in parts)
    manifest = {
        "run": run,
        "name": "toy",
        "number": 1,
        "digest": "d" * 64,
        "on": "production",
        "rows_in": rows,
        "scored": rows,
        "dead": 0,
        "filtered": 0,
        "finished": finished,
        "quarantined": [],
        "keep": [name for name in parts[0].column_names if name != "probability"],
        "input": {"parquet": str(home.parent / rows_of)},
        "source": {"parquet": str(made)},
    }
    (folder / "manifest.json").write_bytes(dumps(manifest))


def _answers(rows: pa.Table, keep: tuple[str, ...] = ("id",)) -> pa.Table:
    probability = 1 / (1 + np.exp(-rows["size"].to_numpy()))
    return rows.select([*keep]).append_column("probability", pa.array(probability.astype(np.float32)))


def _made(tmp_path: Path, home: Path, **sections: Any) -> tuple[Spec, Version, pa.Table]:
    rows = _data()
    pq.write_table(rows, tmp_path / "rows.parquet", row_group_size=130)
    return _spec(tmp_path / "rows.parquet", **sections), _version(home / "models" / "d", rows), rows


def test_answers_meet_late_labels_by_key(tmp_path: Path, home: Path) -> None:
    spec, version, rows = _made(tmp_path, home)
    scored = rows.slice(200, 200).take(np.random.default_rng(0).permutation(200))
    _scores(home, [_answers(scored.slice(0, 90)), _answers(scored.slice(90))])
    found: Any = watch(spec, version)
    march, april = found["periods"]
    assert (march["period"], march["rows"], march["scored"], march["labelled"]) == ("2020-03", 100, 100, 90)
    assert march["metric"] == 1.0
    assert march["drifted"] == []
    assert april["drifted"] == ["size"]
    assert found["validation"] == 0.9
    assert orjson.loads(Path(found["outputs"][0]).read_bytes()) == orjson.loads(dumps(found))
    assert Path(found["outputs"][0]) == home / "monitor" / "toy" / "r1.json"


@pytest.mark.parametrize("kind", ["parquet in a store", "delta"])
def test_scores_elsewhere_are_watched_as_scores_in_a_folder(kind: str, tmp_path: Path, home: Path, s3: str) -> None:
    spec, version, rows = _made(tmp_path, home)
    answers = _answers(rows.slice(200))
    _scores(home, [answers])
    here = watch(spec, version)
    sink: Sink = Parquet(path=f"{s3}/scores") if kind != "delta" else Delta(path=str(tmp_path / "table"))
    manifest = orjson.loads((home / "runs" / "toy" / "r1" / "manifest.json").read_bytes()) | {
        "source": sink.source("r1")
    }
    assert sink.commit(run="r1", parts=sink.write([answers], run="r1", name="part-00000"), manifest=dumps(manifest))
    (home / "runs" / "toy" / "r1" / "manifest.json").write_bytes(dumps(manifest))
    for path in (home / "scores").rglob("*.parquet"):
        path.unlink()
    assert watch(spec, version) == here


def test_the_same_run_gives_the_same_bytes(tmp_path: Path, home: Path) -> None:
    spec, version, rows = _made(tmp_path, home)
    _scores(home, [_answers(rows.slice(200))])
    assert dumps(watch(spec, version)) == dumps(watch(spec, version))


def test_the_latest_run_of_the_window_is_read(tmp_path: Path, home: Path) -> None:
    spec, version, rows = _made(tmp_path, home)
    _scores(home, [_answers(rows.slice(200))], run="old", finished="2020-06-01T00:00:00Z")
    _scores(home, [_answers(rows.slice(200))], run="new", finished="2020-06-02T00:00:00Z")
    assert watch(spec, version, on="production")["run"] == "new"
    with pytest.raises(NotFound):
        watch(spec, version, on="valid")


def test_without_a_key_label_and_time_come_from_the_output(tmp_path: Path, home: Path) -> None:
    spec, version, rows = _made(tmp_path, home, data={"key": []}, score={"keep": ["bad", "at"]})
    _scores(home, [_answers(rows.slice(200), keep=("bad", "at"))])
    found: Any = watch(spec, version)
    assert [entry["labelled"] for entry in found["periods"]] == [90, 90]


def test_without_a_key_and_without_labels_it_says_what_to_do(tmp_path: Path, home: Path) -> None:
    spec, version, rows = _made(tmp_path, home, data={"key": []})
    _scores(home, [_answers(rows.slice(200), keep=())])
    found: Any = watch(spec, version)
    assert found["periods"][0]["metric"] is None
    assert "put bad and at in score.keep" in found["periods"][0]["reason"]
    assert found["periods"][1]["drifted"] == ["size"]


def test_labels_that_the_scored_source_lacks_are_looked_up_by_key(tmp_path: Path, home: Path) -> None:
    spec, version, rows = _made(tmp_path, home, score={"source": {"parquet": str(tmp_path / "new.parquet")}})
    pq.write_table(rows.slice(200).drop_columns(["bad"]), tmp_path / "new.parquet")
    _scores(home, [_answers(rows.slice(200))], rows_of="new.parquet")
    found: Any = watch(spec, version)
    assert [entry["labelled"] for entry in found["periods"]] == [90, 90]


def test_a_key_that_names_two_rows_is_refused_by_name(tmp_path: Path, home: Path) -> None:
    spec, version, rows = _made(tmp_path, home)
    pq.write_table(pa.concat_tables([rows, rows.slice(399)]), tmp_path / "rows.parquet")
    _scores(home, [_answers(rows.slice(200))])
    with pytest.raises(DataError, match="1 keys name more than one row, such as id=399"):
        watch(spec, version)


def test_an_attempt_that_was_overtaken_leaves_nothing(tmp_path: Path, home: Path) -> None:
    spec, version, rows = _made(tmp_path, home)
    _scores(home, [_answers(rows.slice(200))])

    def overtaken() -> None:
        raise Conflict("a later attempt has taken over")

    with pytest.raises(Conflict):
        watch(spec, version, may_commit=overtaken)
    assert not (home / "monitor").exists()


def test_a_test_that_is_given_twice_has_two_names(tmp_path: Path, home: Path) -> None:
    spec, version, rows = _made(tmp_path, home, monitor={"tests": ["psi", {"psi": {"bins": 4}}]})
    _scores(home, [_answers(rows.slice(200))])
    found: Any = watch(spec, version)
    assert found["periods"][0]["drift"]["size"].keys() == {"psi", "psi-2"}


def test_a_category_key_column_joins(tmp_path: Path, home: Path) -> None:
    spec, version, rows = _made(tmp_path, home, data={"key": ["name", "id"], "features": ["size", "kind"]})
    named = rows.append_column("name", pa.array([f"n{i % 7}" for i in range(ROWS)]).dictionary_encode())
    pq.write_table(named, tmp_path / "rows.parquet")
    _scores(home, [_answers(named.slice(200), keep=("name", "id"))])
    found: Any = watch(spec, version)
    assert found["periods"][0]["labelled"] == 90
