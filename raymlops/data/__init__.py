"""Rows: where they come from, which window they lie in, and how they meet the contract."""

from raymlops.data.check import check
from raymlops.data.files import fingerprint
from raymlops.data.folds import Fold
from raymlops.data.keys import key_texts
from raymlops.data.manifest import source_digest
from raymlops.data.match import match
from raymlops.data.periods import Period, period_names, split
from raymlops.data.row_file import read_rows
from raymlops.data.rows import (
    data_fingerprint,
    data_manifest,
    examples,
    examples_by_period,
    examples_in_folds,
    examples_in_order,
    feature_names,
    infer_contract,
    parts,
    prepare,
    read_contract,
    source,
    table,
)
from raymlops.data.scores import (
    ScoreManifest,
    committed_scores,
    latest_scores,
    read_answers,
    read_scores,
    run_folder,
)
from raymlops.data.shares import Share, labels_and_shares, read_share
from raymlops.data.windows import columns_needed, in_window

__all__ = [
    "Fold",
    "Period",
    "ScoreManifest",
    "Share",
    "check",
    "columns_needed",
    "committed_scores",
    "data_fingerprint",
    "data_manifest",
    "examples",
    "examples_by_period",
    "examples_in_folds",
    "examples_in_order",
    "feature_names",
    "fingerprint",
    "in_window",
    "infer_contract",
    "key_texts",
    "labels_and_shares",
    "latest_scores",
    "match",
    "parts",
    "period_names",
    "prepare",
    "read_answers",
    "read_contract",
    "read_rows",
    "read_scores",
    "read_share",
    "run_folder",
    "source",
    "source_digest",
    "split",
    "table",
]
