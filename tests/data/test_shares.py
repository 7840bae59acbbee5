"""Shares of a window: together every labelled row once, in the source's order, whatever the files are."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raymlops.contract import Contract
from raymlops.data import examples, infer_contract, labels_and_shares, read_share
from raymlops.errors import DataError
from raymlops.spec import Spec, parse


def _spec(folder: Path, windows: str = "") -> Spec:
    return parse(
        f"name: shared\ndata: {{source: {{parquet: {folder}}}, label: y, key: [id]{windows}}}\n"
        "train: {trainers: {xgboost: {}}}"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files of 300, 5 and 95 rows, a tenth of them without a label."""
    random = np.random.default_rng(0)
    start = 0
    for number, rows in enumerate((300, 5, 95)):
        x = random.normal(size=rows)
        y = [None if one < 0.1 else int(one > 0.5) for one in random.random(rows)]
        table = pa.table({"a": x, "y": pa.array(y, pa.int64()), "id": np.arange(start, start + rows)})
        pq.write_table(table, tmp_path / f"{number}.parquet", row_group_size=40)
        start += rows
    return tmp_path


def _contract(spec: Spec) -> Contract:
    return infer_contract(spec, on="train")


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shares_hold_every_labelled_row_once_and_are_of_equal_length(folder: Path, count: int) -> None:
    spec = _spec(folder)
    contract = _contract(spec)
    whole = examples(spec, on="train", contract=contract)
    labels, shares = labels_and_shares(spec, on="train", contract=contract, count=count)
    read = [read_share(spec, share, contract=contract) for share in shares]
    np.testing.assert_array_equal(labels, whole.y)
    np.testing.assert_array_equal(np.concatenate([one.x for one in read]), whole.x)
    np.testing.assert_array_equal(np.concatenate([one.y for one in read]), whole.y)
    lengths = [len(one.y) for one in read]
    assert max(lengths) - min(lengths) <= 1


def test_rows_that_break_the_contract_are_left_out_of_their_share(folder: Path) -> None:
    contract = _contract(_spec(folder, ", contract: {a: {max: 0.0}}"))
    spec = _spec(folder)
    _, shares = labels_and_shares(spec, on="train", contract=contract, count=2)
    read = [read_share(spec, share, contract=contract) for share in shares]
    kept = examples(spec, on="train", contract=contract)
    np.testing.assert_array_equal(np.concatenate([one.x for one in read]), kept.x)
    assert (kept.x <= 0).all()


def test_fewer_rows_than_shares_are_refused(folder: Path) -> None:
    spec = _spec(folder)
    with pytest.raises(DataError, match=r"data\.windows\.train: \d+ labelled rows, train\.workers is 1000"):
        labels_and_shares(spec, on="train", contract=_contract(spec), count=1000)


def test_a_share_of_which_no_row_keeps_the_contract_says_so(folder: Path) -> None:
    contract = _contract(_spec(folder, ", contract: {a: {max: -1000.0}}"))
    spec = _spec(folder)
    _, shares = labels_and_shares(spec, on="train", contract=contract, count=2)
    with pytest.raises(DataError, match="no row of a worker's share keeps the contract; take fewer"):
        read_share(spec, shares[0], contract=contract)
