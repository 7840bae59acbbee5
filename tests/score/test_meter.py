"""The numbers of a run as Prometheus reads them: its own parser, on the files that runs leave."""

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from raymlops.errors import DataError
from raymlops.score.account import Account
from raymlops.score.ledger import PieceCount
from raymlops.score.meter import Meter, metered
from raymlops.score.run import run
from raymlops.spec import Spec, home
from raymlops.values import Version
from tests.score.faults.here import in_this_process


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "raymlops.score.on_ray", in_this_process())


def _read(name: str = "score") -> dict[str, float]:
    text = (home() / "metrics" / f"{name}-m.prom").read_text()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert all(sample.labels["model"] == "m" for sample in samples)
    return {sample.labels.get("outcome", sample.name): sample.value for sample in samples}


def _scored(rows: int) -> PieceCount:
    return PieceCount(index=0, rows_in=rows, scored=rows, dead=0, filtered=0, rules={})


@pytest.mark.usefixtures("version")
def test_a_run_leaves_what_became_of_its_rows_and_when_they_were_committed(spec: Spec) -> None:
    before = time.time()
    run(spec)
    numbers = _read()
    assert {name: numbers[name] for name in ("scored", "dead", "filtered")} == {"scored": 400, "dead": 0, "filtered": 0}
    assert numbers["raymlops_score_rows_left"] == numbers["raymlops_score_pieces_left"] == 0
    assert numbers["raymlops_score_running"] == 0
    assert before <= _read("committed")["raymlops_score_committed_timestamp_seconds"] <= time.time()


def test_a_run_that_fails_is_not_running_and_keeps_the_time_of_the_last_commit(
    spec: Spec, version: Version, rows_folder: Path
) -> None:
    run(spec)
    committed = _read("committed")
    (rows_folder / "3.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError):
        run(spec)
    assert _read("committed") == committed
    assert _read()["raymlops_score_running"] == 0


@pytest.fixture
def rows_folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "rows"
    shutil.rmtree(tmp_path / "rows")


def test_rate_and_time_left_count_from_where_the_run_goes_on() -> None:
    now = [100.0]
    account = Account()
    account.add(_scored(500))
    meter = Meter(model="m", account=account, total=1_000, pieces=3, clock=lambda: now[0])
    account.add(_scored(400))
    now[0] = 104.0
    meter.update()
    numbers = _read()
    assert numbers["scored"] == 900
    assert numbers["raymlops_score_rows_per_second"] == 100
    assert (numbers["raymlops_score_rows_left"], numbers["raymlops_score_seconds_left"]) == (600, 6)
    assert (numbers["raymlops_score_pieces_left"], numbers["raymlops_score_running"]) == (1, 1)
    account.add(_scored(600))
    now[0] = 105.9
    meter.update()
    assert _read() == numbers
    now[0] = 106.0
    meter.update()
    assert _read()["raymlops_score_rows_left"] == 0


def test_a_disk_that_takes_no_metrics_is_said_and_stops_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    (home() / "metrics").write_text("in the way")
    with metered("m", Account(), total=None, pieces=1) as meter:
        meter.update()
    assert "metrics were not written" in capsys.readouterr().err
