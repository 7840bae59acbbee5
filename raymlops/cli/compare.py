"""Ask the endpoint for rows that the batch has scored, and compare the answers value by value."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from raymlops import registry
from raymlops.client import Client
from raymlops.contract import answer_schema
from raymlops.data import read_answers, read_contract, read_scores, table
from raymlops.errors import DataError
from raymlops.spec import Spec
from raymlops.values import JsonValue

__all__ = ["compare"]


def compare(spec: Spec, scored: dict[str, Any], *, url: str, rows: int) -> dict[str, JsonValue]:
    """Return how far the endpoint's answers are from the batch's, for rows spread evenly over the scored ones."""
    if not spec.data.key:
        raise DataError("data.key: is needed to find the same row in the batch and online; name the columns of it")
    manifest = read_scores(Path(str(scored["folder"])))
    contract = read_contract(registry.resolve(str(scored["model"])).path)
    batch = read_answers(manifest)
    batch = batch.take(np.unique(np.linspace(0, batch.num_rows - 1, rows).astype(np.int64)))
    asked = table(spec, on=manifest.on, columns=list(dict.fromkeys([*spec.data.key, *contract.names])))
    answered = [name for name, _ in answer_schema(contract.label)]
    both = batch.select([*spec.data.key, *answered]).join(asked, [*spec.data.key], join_type="inner")
    with Client(url) as client:
        made = client.predict(spec.name, both.select([*contract.names]))
    differences = [_difference(both.column(name), made.answers[name]) for name in answered]
    return {
        "rows": both.num_rows, "model": made.model_name, "version": made.model_version,
        "max_difference": max(differences), "bit_equal": max(differences) == 0.0,
    }  # fmt: skip


def _difference(batch: pa.ChunkedArray, online: Any) -> float:
    if pa.types.is_string(batch.type):
        return float(batch.to_pylist() != list(online))
    offline = np.asarray(batch.to_numpy(), dtype=np.float64)
    return float(np.max(np.abs(offline - np.asarray(online, dtype=np.float64)), initial=0.0))
