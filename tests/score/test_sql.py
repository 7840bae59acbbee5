"""Rows of one table scored into another, on SQLite and PostgreSQL, without Ray: the way of every piece of a run."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pytest

from raymlops.data import read_answers, read_scores
from raymlops.engine import predictor
from raymlops.errors import DataError
from raymlops.plugins import build
from raymlops.score.ledger import PieceCount, begin
from raymlops.score.piece import Scorer
from raymlops.score.plan import make_plan, remember
from raymlops.score.run import _commit, _finished
from raymlops.spec import Spec
from raymlops.values import Version


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of a database as a spec names it: with its address in the environment."""
    whole = f"sqlite:///{tmp_path}/rows.db" if request.param == "sqlite" else request.getfixturevalue("postgres")
    monkeypatch.setenv("ROWS_URL", whole)
    return str(whole)


def _do(url: str, statement: str, rows: Sequence[Sequence[Any]] = ()) -> Any:
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file, file:
            return (file.executemany(statement, rows) if rows else file.execute(statement)).fetchall()
    with psycopg.connect(url) as connection:
        cursor = connection.cursor()
        cursor.executemany(statement.replace("?", "%s"), rows) if rows else cursor.execute(statement)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def sql_spec(spec: Spec, url: str, rows: pa.Table) -> Spec:
    _do(url, "CREATE TABLE rows (id BIGINT PRIMARY KEY, x DOUBLE PRECISION, colour TEXT, y BIGINT, note TEXT)")
    _do(url, "INSERT INTO rows VALUES (?, ?, ?, ?, ?)", [tuple(row.values()) for row in rows.to_pylist()])
    source = {"sql": {"url": "${ROWS_URL}", "query": "SELECT * FROM rows", "shard_by": "id", "rows_per_shard": 150}}
    sink = {"sql": {"url": "${ROWS_URL}", "table": "scores"}}
    return spec.model_copy(update={"score": spec.score.model_copy(update={"source": source, "sink": sink})})


def _committed(spec: Spec) -> tuple[Path, list[PieceCount]]:
    plan, pieces = make_plan(spec)
    folder, scorer = remember(plan, pieces), Scorer(plan)
    with begin(folder) as attempt:
        counts = [scorer.score(index, piece) for index, piece in enumerate(pieces)]
        _commit(plan, attempt, counts, pieces)
    return folder, counts


def test_answers_of_a_table_are_those_of_a_plain_loop_in_the_order_of_the_key(
    sql_spec: Spec, url: str, version: Version, rows: pa.Table
) -> None:
    folder, counts = _committed(sql_spec)
    assert [count.scored for count in counts] == [150, 150, 100]
    scores = read_scores(folder)
    made = read_answers(scores)
    assert made.column("id").to_pylist() == rows.column("id").to_pylist()
    assert made.column("note").to_pylist() == rows.column("note").to_pylist()
    x = np.column_stack([rows.column("x").to_numpy(), np.asarray(rows.column("colour")) == "red"]).astype(np.float32)
    expected = predictor(version).predict(x)
    np.testing.assert_allclose(made.column("probability").to_numpy(), expected, rtol=1e-7)
    assert set(made.column("run_id").to_pylist()) == {scores.run}
    assert _do(url, "SELECT run, rows FROM raymlops_runs") == [(scores.run, 400)]
    assert url not in (folder / "manifest.json").read_text() + (folder / "plan.json").read_text()


def test_an_unchanged_table_is_the_same_run_and_a_changed_one_another(
    sql_spec: Spec, url: str, version: Version
) -> None:
    folder, _ = _committed(sql_spec)
    assert make_plan(sql_spec)[0].run == folder.name
    assert _finished(folder)
    _do(url, "UPDATE rows SET x = x + 1 WHERE id = 7")
    other, _ = _committed(sql_spec)
    assert other.name != folder.name
    assert _do(url, "SELECT count(*), count(DISTINCT run_id) FROM scores") == [(800, 2)]


def test_a_key_keeps_one_answer_for_each_row(sql_spec: Spec, url: str, version: Version) -> None:
    sink = {"sql": {"url": "${ROWS_URL}", "table": "scores", "key": ["id"]}}
    spec = sql_spec.model_copy(update={"score": sql_spec.score.model_copy(update={"sink": sink})})
    _committed(spec)
    _do(url, "UPDATE rows SET x = x + 1")
    _do(url, "DELETE FROM rows WHERE id < 100")
    folder, _ = _committed(spec)
    assert _do(url, "SELECT count(*), count(DISTINCT id) FROM scores") == [(400, 400)]
    assert _do(url, f"SELECT count(*) FROM scores WHERE run_id = '{folder.name}'") == [(300,)]


def test_a_row_that_changes_under_way_stops_the_run_and_nothing_is_seen(
    sql_spec: Spec, url: str, version: Version
) -> None:
    plan, pieces = make_plan(sql_spec)
    scorer = Scorer(plan)
    scorer.score(0, pieces[0])
    _do(url, "UPDATE rows SET x = x + 1 WHERE id IN (1, 399)")
    scorer.score(1, pieces[1])
    with pytest.raises(DataError, match="changed while they were read"):
        scorer.score(2, pieces[2])
    with pytest.raises(DataError):
        build("raymlops.data.sources", {"sql": {"url": url, "query": "SELECT * FROM scores"}}, where="test").pieces()


def test_dead_letters_name_the_range_and_the_row(sql_spec: Spec, url: str, version: Version) -> None:
    _do(url, "UPDATE rows SET colour = 'mauve' WHERE id = 151")
    folder, counts = _committed(sql_spec)
    assert [(count.scored, count.dead) for count in counts] == [(150, 0), (149, 1), (100, 0)]
    letter = build("raymlops.data.sources", {"parquet": str(folder / "dead")}, where="test")
    ((row,),) = ([table.to_pylist()[0] for table in letter.read(piece)] for piece in letter.pieces())
    assert (row["row"], row["column"], row["key"]) == (1, "colour", '{"id":151}')
    assert '"by":"id","from":' in row["source"]
