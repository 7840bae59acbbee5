"""Score one piece of input: read, check, predict, write aside, rename. Knows nothing of Ray or of other pieces."""

import os
from collections import Counter
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from raymlops.codec import digest_file, dumps, write_aside
from raymlops.contract import Contract, Encoded, answer_schema, answers, encode
from raymlops.data import columns_needed, in_window, read_contract
from raymlops.engine import predictor
from raymlops.plugins import build
from raymlops.protocols import Predictor, Source
from raymlops.spec import Spec
from raymlops.values import JsonValue, Piece, Version

__all__ = ["PieceCount", "Plan", "Scorer", "read_count"]

_DEAD = pa.schema(
    [("source", pa.string()), ("part", pa.int64()), ("row", pa.int64()), ("key", pa.string()), ("column", pa.string()),
     ("rule", pa.string()), ("value", pa.string()), ("stage", pa.string())]
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that a worker needs to score any piece of a run; ``on`` None scores every row."""

    spec: Spec
    version: Version
    engine: tuple[str, dict[str, JsonValue]]
    source: JsonValue
    on: str | None
    run: str
    folder: Path
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceCount:
    """What became of a piece's rows: rows_in = scored + dead + filtered. ``rules`` counts the rules broken."""

    index: int
    rows_in: int
    scored: int
    dead: int
    filtered: int
    name: str
    sha256: str
    rules: dict[str, int]


class Scorer:
    """Scores pieces one after another with an engine that is loaded once."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def score(self, index: int, piece: Piece) -> PieceCount:
        """Write the piece's part and dead letters, then its count, which says that both are whole."""
        there = read_count(self.plan.folder, index)
        if there is not None:
            return there
        rows = pa.concat_tables(self._source.read(piece, columns=self._columns))
        kept = self._mask(rows)
        inside = rows.filter(pa.array(kept))
        encoded = encode(self._contract, {name: inside.column(name) for name in self._contract.names})
        name = f"part-{index:05}.parquet"
        _write(self._part(inside, encoded), self.plan.folder / name)
        if encoded.violations:
            _write(self._dead(piece, inside, encoded, np.flatnonzero(kept)), self.plan.folder / "dead" / name)
        count = PieceCount(
            index=index,
            rows_in=rows.num_rows,
            scored=int(encoded.ok.sum()),
            dead=int((~encoded.ok).sum()),
            filtered=rows.num_rows - inside.num_rows,
            name=name,
            sha256=digest_file(self.plan.folder / name),
            rules=dict(Counter(f"{v.column}: {v.rule}" for v in encoded.violations)),
        )
        write_aside(_count_path(self.plan.folder, index), dumps(asdict(count)))
        return count

    @cached_property
    def _source(self) -> Source:
        made = build("raymlops.data.sources", self.plan.source, where="score.source")
        assert isinstance(made, Source)
        return made

    @cached_property
    def _contract(self) -> Contract:
        return read_contract(self.plan.version.path)

    @cached_property
    def _predictor(self) -> Predictor:
        return predictor(self.plan.version, engine=self.plan.engine, threads=self.plan.threads)

    @cached_property
    def _columns(self) -> list[str] | None:
        needed = columns_needed(self.plan.spec.data) if self.plan.on is not None else ()
        if needed is None:
            return None
        return list(dict.fromkeys([*self._contract.names, *self._contract.key, *self.plan.spec.score.keep, *needed]))

    def _mask(self, rows: pa.Table) -> Any:
        if self.plan.on is None:
            return np.ones(rows.num_rows, dtype=np.bool_)
        return in_window(self.plan.spec.data, self.plan.on, rows)

    def _part(self, rows: pa.Table, encoded: Encoded) -> pa.Table:
        good = rows.filter(pa.array(encoded.ok))
        y = self._predictor.predict(np.ascontiguousarray(encoded.x[encoded.ok]))
        named = answers(self._contract.label, y)
        passed = list(dict.fromkeys([*self._contract.key, *self.plan.spec.score.keep]))
        columns = {name: good.column(name) for name in passed}
        columns |= {name: pa.array(named[name], kind) for name, kind in answer_schema(self._contract.label)}
        columns["model_version"] = pa.array(np.full(good.num_rows, self.plan.version.number), pa.int64())
        columns["run_id"] = pa.array([self.plan.run] * good.num_rows, pa.string())
        return pa.table(columns)

    def _dead(self, piece: Piece, rows: pa.Table, encoded: Encoded, places: Any) -> pa.Table:
        keys = rows.select([*self._contract.key])
        letters = [
            {"source": piece.source, "part": piece.part, "row": int(places[v.row]), "column": v.column, "rule": v.rule,
             "value": v.value, "stage": "contract", "key": str(keys.slice(v.row, 1).to_pylist()[0])}
            for v in encoded.violations
        ]  # fmt: skip
        return pa.Table.from_pylist(letters, schema=_DEAD)


def read_count(folder: Path, index: int) -> PieceCount | None:
    """Return the count of a piece that is done, None for one that is not."""
    try:
        return PieceCount(**orjson.loads(_count_path(folder, index).read_bytes()))
    except FileNotFoundError:
        return None


def _count_path(folder: Path, index: int) -> Path:
    return folder / "counts" / f"{index:05}.json"


def _write(table: pa.Table, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    try:
        pq.write_table(table, aside)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
