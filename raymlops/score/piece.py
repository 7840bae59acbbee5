"""Score one piece of input: read, check, predict and write, a bounded number of rows at a time.

Knows nothing of Ray, of other pieces or of what makes the parts visible.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raymlops import registry
from raymlops.codec import digest
from raymlops.contract import Contract, Encoded, answer_schema, answers, encode
from raymlops.data import columns_needed, in_window, key_texts, read_contract
from raymlops.engine import predictor
from raymlops.errors import DataError
from raymlops.plugins import build
from raymlops.protocols import Predictor, Sink, Source
from raymlops.score.ledger import PieceCount
from raymlops.score.sought import DEAD, Sought, sought
from raymlops.spec import Spec
from raymlops.values import UNREADABLE, JsonValue, Part, Piece, Version

__all__ = ["DEAD_LETTER", "Plan", "Scorer"]

DEAD_LETTER = pa.schema(
    [("source", pa.string()), ("part", pa.int64()), ("row", pa.int64()), ("key", pa.string()), ("column", pa.string()),
     ("rule", pa.string()), ("value", pa.string()), ("stage", pa.string())]
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that a worker needs to score any piece of a run; ``on`` None scores every row.

    ``dead``: the sink of dead letters. ``quarantine``: whether a piece that cannot be read is left out, with its
    cause, or stops the run. ``gpus``: the share of a GPU that a worker's engine holds, 0 for none. ``redrives``: the
    run of which only the dead rows are scored, if any.
    """

    spec: Spec
    version: Version
    engine: tuple[str, dict[str, JsonValue]]
    source: JsonValue
    sink: JsonValue
    dead: JsonValue
    on: str | None
    run: str
    threads: int
    quarantine: bool
    gpus: float = 0.0
    redrives: str = ""


@dataclass(slots=True)
class _Tally:
    read: int = 0
    rows_in: int = 0
    scored: int = 0
    filtered: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    letters: list[pa.Table] = field(default_factory=list)


class Scorer:
    """Scores pieces one after another with an engine that is loaded once."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def score(self, index: int, piece: Piece) -> PieceCount:
        """Write the piece's parts and dead letters and return what became of its rows.

        The names of the parts follow from the run and the piece, so a piece that is done twice has the same parts.
        """
        tally = _Tally()
        name = f"part-{index:05}-{digest([piece.part, piece.fingerprint])[:12]}"
        try:
            parts = self._sink.write(self._answered(piece, tally), run=self.plan.run, name=name)
        except DataError as error:
            # A file of which some rows were scored before is not left out: all its rows would be sought next.
            if not self.plan.quarantine or (self._sought and not self._sought.whole(piece)):
                raise
            return self._left_out(index, piece, name, str(error))
        dead = tally.rows_in - tally.scored - tally.filtered
        letters = self._bury(tally.letters, name)
        return PieceCount(
            index=index,
            rows_in=tally.rows_in,
            scored=tally.scored,
            dead=dead,
            filtered=tally.filtered,
            parts=tuple(parts),
            rules=dict(tally.rules),
            letters=letters,
        )

    def _answered(self, piece: Piece, tally: _Tally) -> Iterator[pa.Table]:
        for rows in self._source.read(piece, columns=self._columns):
            places = np.arange(tally.read, tally.read + rows.num_rows)
            tally.read += rows.num_rows
            if self._sought:
                wanted = self._sought.mask(piece, rows, self._contract.key)
                rows, places = rows.filter(pa.array(wanted)), places[wanted]
            tally.rows_in += rows.num_rows
            if UNREADABLE in rows.column_names:
                lost = rows.column(UNREADABLE).is_valid()
                tally.letters.append(_unread(piece, rows.column(UNREADABLE).filter(lost), places[lost]))
                tally.rules["row: must be readable"] += tally.letters[-1].num_rows
                readable = pc.invert(lost)
                rows, places = rows.filter(readable), places[readable]
            kept = self._mask(rows)
            inside = rows if kept is None else rows.filter(pa.array(kept))
            encoded = encode(self._contract, {name: inside.column(name) for name in self._contract.names})
            if encoded.violations:
                places = places if kept is None else places[kept]
                tally.letters.append(self._letters(piece, inside, encoded, places))
                tally.rules.update(f"{v.column}: {v.rule}" for v in encoded.violations)
            tally.filtered += rows.num_rows - inside.num_rows
            tally.scored += int(encoded.ok.sum())
            if encoded.ok.any():
                yield self._part(inside, encoded)

    def _part(self, rows: pa.Table, encoded: Encoded) -> pa.Table:
        good, x = rows, encoded.x
        if not encoded.ok.all():
            good, x = rows.filter(pa.array(encoded.ok)), np.ascontiguousarray(x[encoded.ok])
        named = answers(self._contract.label, self._predictor.predict(x))
        passed = list(dict.fromkeys([*self._contract.key, *self.plan.spec.score.keep]))
        columns = {name: good.column(name) for name in passed}
        columns |= {name: pa.array(named[name], kind) for name, kind in answer_schema(self._contract.label)}
        columns["model_version"] = _constant(self.plan.version.number, good.num_rows)
        columns["run_id"] = _constant(self.plan.run, good.num_rows)
        return pa.table(columns)

    def _letters(self, piece: Piece, rows: pa.Table, encoded: Encoded, places: Any) -> pa.Table:
        broken = dict.fromkeys(v.row for v in encoded.violations)
        texts = key_texts(rows.take(pa.array([*broken], pa.int64())), self._contract.key)
        keys = dict(zip(broken, texts, strict=True)) if texts else {}
        letters = [
            {"source": piece.source, "part": piece.part, "row": int(places[v.row]), "column": v.column, "rule": v.rule,
             "value": v.value, "stage": "contract", "key": keys.get(v.row)}
            for v in encoded.violations
        ]  # fmt: skip
        return pa.Table.from_pylist(letters, schema=DEAD_LETTER)

    def _left_out(self, index: int, piece: Piece, name: str, cause: str) -> PieceCount:
        letter = {
            "source": piece.source,
            "part": piece.part,
            "rule": "must be readable",
            "value": cause,
            "stage": "read",
        }
        letters = self._bury([pa.Table.from_pylist([letter], schema=DEAD_LETTER)], name)
        rows = piece.rows or 0
        return PieceCount(
            index=index, rows_in=rows, scored=0, dead=rows, filtered=0, rules={"file: must be readable": max(rows, 1)},
            letters=letters, cause=cause,
        )  # fmt: skip

    def _bury(self, letters: list[pa.Table], name: str) -> tuple[Part, ...]:
        return tuple(self._grave.write(letters, run=DEAD, name=name)) if letters else ()

    @cached_property
    def _source(self) -> Source:
        made: Source = build("raymlops.data.sources", self.plan.source, where="score.source")
        return made

    @cached_property
    def _sink(self) -> Sink:
        made: Sink = build("raymlops.data.sinks", self.plan.sink, where="score.sink")
        return made

    @cached_property
    def _grave(self) -> Sink:
        made: Sink = build("raymlops.data.sinks", self.plan.dead, where="dead letters")
        return made

    @cached_property
    def _sought(self) -> Sought | None:
        return sought(self.plan.version.name, self.plan.redrives) if self.plan.redrives else None

    @cached_property
    def _contract(self) -> Contract:
        return read_contract(self.plan.version.path)

    @cached_property
    def _predictor(self) -> Predictor:
        registry.check_loaded(self.plan.version)
        return predictor(self.plan.version, engine=self.plan.engine, threads=self.plan.threads)

    @cached_property
    def _columns(self) -> list[str] | None:
        needed = columns_needed(self.plan.spec.data, self.plan.on)
        if needed is None:
            return None
        return list(dict.fromkeys([*self._contract.names, *self._contract.key, *self.plan.spec.score.keep, *needed]))

    def _mask(self, rows: pa.Table) -> Any:
        return None if self.plan.on is None else in_window(self.plan.spec.data, self.plan.on, rows)


def _unread(piece: Piece, said: pa.ChunkedArray, places: Any) -> pa.Table:
    letters = [
        {"source": piece.source, "part": piece.part, "row": int(row), "rule": "must be readable", "value": text,
         "stage": "read"}
        for row, text in zip(places, said.to_pylist(), strict=True)
    ]  # fmt: skip
    return pa.Table.from_pylist(letters, schema=DEAD_LETTER)


def _constant(value: int | str, rows: int) -> pa.Array:
    kind = pa.int64() if isinstance(value, int) else pa.string()
    return pa.repeat(pa.scalar(value, kind), rows)
