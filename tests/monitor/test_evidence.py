"""Evidence is complete for every period, whatever the labels and columns look like."""

from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import mean_squared_error, roc_auc_score

from raymlops.codec import dumps
from raymlops.contract import Contract, Feature, Label, profile_table
from raymlops.data.periods import Period, period_names
from raymlops.errors import DataError
from raymlops.monitor import Question, evidence
from raymlops.monitor.drift_tests.ks import Ks
from raymlops.monitor.drift_tests.psi import Psi

BINARY = Contract(
    features=(
        Feature(name="size", type="number", nullable=True),
        Feature(name="kind", type="category", nullable=True, categories=("a", "b")),
    ),
    label=Label(name="bad", task="binary", classes=("0", "1")),
)


def _rows(months: list[int], *, seed: int = 0, rows: int = 300) -> pa.Table:
    random = np.random.default_rng(seed)
    days = [date(2020, month, 1 + i % 28) for month in months for i in range(rows)]
    total = len(days)
    probability = random.random(total)
    return pa.table(
        {
            "size": random.normal(size=total),
            "kind": random.choice(["a", "b"], total).tolist(),
            "at": days,
            "bad": (random.random(total) < probability).astype(np.int64),
            "probability": probability.astype(np.float32),
        }
    )


def _question(
    rows: pa.Table, *, period: Period = "month", contract: Contract = BINARY, metric: str = "auc"
) -> Question:
    return Question(
        contract=contract,
        reference=profile_table(contract, rows),
        metric=metric,
        tests=[("psi", Psi()), ("ks", Ks())],
        period=period,
        time="at",
    )


def _with(rows: pa.Table, **columns: Any) -> pa.Table:
    for name, values in columns.items():
        rows = rows.set_column(rows.column_names.index(name), name, pa.array(values))
    return rows


def test_each_period_has_its_rows_its_metric_and_its_rate() -> None:
    rows = _rows([3, 1, 2])
    found: list[Any] = evidence(_question(rows), rows, rows)
    assert [entry["period"] for entry in found] == ["2020-01", "2020-02", "2020-03"]
    january = rows.slice(300, 300)
    assert found[0]["rows"] == found[0]["scored"] == found[0]["labelled"] == 300
    assert found[0]["metric"] == pytest.approx(
        roc_auc_score(january["bad"].to_numpy(), january["probability"].to_numpy())
    )
    assert found[0]["rate"] == pytest.approx(january["bad"].to_numpy().mean())
    assert found[0]["drifted"] == []
    assert found[0]["reason"] == ""


def test_a_shifted_feature_is_named_in_its_period_only() -> None:
    rows = _rows([1, 2])
    size = rows["size"].to_numpy() + np.repeat([0.0, 2.0], 300)
    found: list[Any] = evidence(_question(rows), _with(rows, size=size), rows)
    assert [entry["drifted"] for entry in found] == [[], ["size"]]
    assert found[1]["drift"]["size"]["psi"]["drifted"]
    assert found[1]["drift"]["size"]["psi"].keys() == {"distance", "limit", "drifted", "note"}


def test_labels_that_have_not_come_are_counted_as_unlabelled() -> None:
    rows = _rows([1, 2])
    late = [value if i < 400 else None for i, value in enumerate(rows["bad"].to_pylist())]
    found: list[Any] = evidence(_question(rows), rows, _with(rows, bad=late))
    assert [entry["labelled"] for entry in found] == [300, 100]
    none: list[Any] = evidence(_question(rows), rows, _with(rows, bad=pa.nulls(600)))
    assert [(entry["metric"], entry["rate"], entry["reason"]) for entry in none] == [(None, None, "no label yet")] * 2
    assert none[0]["predicted"] == pytest.approx(0.5, abs=0.1)


def test_a_period_of_one_class_has_a_rate_but_no_auc() -> None:
    rows = _rows([1])
    found: list[Any] = evidence(_question(rows), rows, _with(rows, bad=np.ones(300, np.int64)))
    assert found[0]["metric"] is None
    assert found[0]["rate"] == 1
    assert found[0]["reason"] == "auc is undefined: all labels are of one class"


def test_a_class_that_training_has_not_seen_is_left_out_and_said() -> None:
    rows = _rows([1])
    bad = [2, 2, *rows["bad"].to_pylist()[2:]]
    found: list[Any] = evidence(_question(rows), rows, _with(rows, bad=bad))
    assert found[0]["labelled"] == 298
    assert "2 labels of a class" in found[0]["reason"]


def test_rows_that_were_refused_count_for_drift_but_not_for_the_metric() -> None:
    rows = _rows([1, 2])
    found: list[Any] = evidence(_question(rows), rows, rows.slice(0, 200))
    assert [(entry["rows"], entry["scored"]) for entry in found] == [(300, 200), (300, 0)]
    assert found[1]["reason"] == "no row of this period was scored"


def test_without_answers_the_reason_is_given_and_drift_is_found() -> None:
    rows = _rows([1])
    found: list[Any] = evidence(_question(rows), rows, rows.slice(0, 0), why="put bad in score.keep")
    assert found[0]["reason"] == "put bad in score.keep"
    assert found[0]["drift"].keys() == {"size", "kind"}


@pytest.mark.parametrize(
    ("size", "kind"),
    [
        (pa.nulls(300), pa.nulls(300)),
        (np.full(300, np.nan), ["z"] * 300),
        (np.full(300, np.inf), ["a"] * 300),
        (np.zeros(300), np.arange(300.0)),
    ],
    ids=["null type", "missing and unseen", "infinite", "constant and other type"],
)
def test_degenerate_columns_give_finite_json(size: Any, kind: Any) -> None:
    rows = _rows([1])
    found = evidence(_question(rows), _with(rows, size=size, kind=kind), rows)
    assert b"null" not in dumps(found[0]["drift"])


def test_regression_is_judged_by_its_metric_and_its_mean() -> None:
    rows = _rows([1])
    y, p = np.arange(300.0), (np.arange(300.0) + 1).astype(np.float32)
    contract = Contract(features=BINARY.features, label=Label(name="bad", task="regression"))
    answered = _with(rows.rename_columns(["size", "kind", "at", "bad", "prediction"]), bad=y, prediction=p)
    question = _question(rows, contract=contract, metric="rmse", period="all")
    found: list[Any] = evidence(question, rows, answered)
    assert found[0]["metric"] == pytest.approx(np.sqrt(mean_squared_error(y, p)))
    assert found[0]["rate"] == pytest.approx(149.5)
    assert found[0]["period"] == "all"


def test_several_classes_are_judged_by_their_probabilities() -> None:
    rows = _rows([1])
    label = Label(name="bad", task="multiclass", classes=("x", "y", "z"))
    contract = Contract(features=BINARY.features, label=label)
    truth = np.resize(["x", "y", "z"], 300)
    shares = {f"probability_{c}": np.where(truth == c, 0.8, 0.1).astype(np.float32) for c in label.classes}
    answered = pa.table({"at": rows["at"], "bad": truth.tolist(), "prediction": truth.tolist(), **shares})
    found: list[Any] = evidence(_question(rows, contract=contract, metric="accuracy"), rows, answered)
    assert found[0]["metric"] == 1
    assert found[0]["rate"] is None


def test_the_order_of_rows_changes_nothing() -> None:
    rows = _rows([1, 2])
    mixed = rows.take(np.random.default_rng(0).permutation(600))
    straight: list[Any] = evidence(_question(rows), rows, rows)
    shuffled: list[Any] = evidence(_question(rows), mixed, mixed)
    assert [entry["drift"] for entry in straight] == [entry["drift"] for entry in shuffled]
    assert [entry["metric"] for entry in straight] == pytest.approx([entry["metric"] for entry in shuffled])


@pytest.mark.parametrize(
    ("column", "period", "expected"),
    [
        (pa.array([date(2020, 12, 31)]), "day", "2020-12-31"),
        (pa.array([date(2021, 1, 1)]), "week", "2020-W53"),
        (pa.array([datetime(2021, 1, 31, 23, 59)]), "month", "2021-01"),
        (pa.array(["2021-01-31 23:59:00"]), "month", "2021-01"),
        (pa.array([datetime(2021, 1, 31, 23)], pa.timestamp("s", tz="America/New_York")), "month", "2021-01"),
        (pa.array([None], pa.date32()), "day", "no time"),
        (pa.array([5.0]), "all", "all"),
    ],
    ids=["date", "iso week", "timestamp", "text", "zone", "null", "all"],
)
def test_a_row_has_the_period_of_its_moment(column: pa.Array, period: Period, expected: str) -> None:
    assert period_names(pa.chunked_array([column]), period).to_pylist() == [expected]


@pytest.mark.parametrize("column", [pa.array([5.0]), pa.array(["soon"])], ids=["number", "text"])
def test_a_column_that_holds_no_moments_is_refused(column: pa.Array) -> None:
    with pytest.raises(DataError, match=r"data\.time"):
        period_names(pa.chunked_array([column]), "month")
