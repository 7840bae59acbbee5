"""The rows of a spec: prepared, read piece by piece, cut to a window, encoded by a contract."""

import glob
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from raymlops.contract import Contract, Violation, encode, encode_label, infer
from raymlops.data.folds import Fold, columns_of_folds, folds
from raymlops.data.manifest import manifest, source_digest
from raymlops.data.moments import microseconds
from raymlops.data.periods import period_names, split
from raymlops.data.stores import is_url
from raymlops.data.windows import columns_needed, in_window
from raymlops.errors import DataError, SpecError
from raymlops.plugins import build, suggestion
from raymlops.protocols import Source
from raymlops.spec import Spec, expand
from raymlops.telemetry import say
from raymlops.values import Examples, JsonValue, Piece

__all__ = [
    "data_fingerprint",
    "data_manifest",
    "encoded_rows",
    "examples",
    "examples_by_period",
    "examples_in_folds",
    "examples_in_order",
    "feature_names",
    "infer_contract",
    "parts",
    "prepare",
    "read_contract",
    "source",
    "table",
]


def source(spec: Spec) -> Source:
    """Return the source of `data.source`."""
    made = build("raymlops.data.sources", spec.data.source, where="data.source")
    assert isinstance(made, Source)
    return made


def prepare(spec: Spec) -> None:
    """Run `data.prepare` if the source's path does not exist. The path appears whole or not at all."""
    if spec.data.prepare is None:
        return
    path = getattr(source(spec), "path", None)
    if path is None:
        raise SpecError("data.prepare: needs a source with a path, so that it can be seen whether the data is there")
    if is_url(expand(path)):
        raise SpecError(f"data.prepare: the source's path {path!r} is in an object store; name a folder")
    if glob.has_magic(expand(path)):
        raise SpecError(f"data.prepare: the source's path {path!r} is a pattern; name the folder that the script makes")
    target = Path(expand(path))
    if target.exists():
        return
    script = Path(expand(spec.data.prepare)).resolve()
    if not script.is_file():
        raise SpecError(f"data.prepare: {script} is not a file")
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    target.parent.mkdir(parents=True, exist_ok=True)
    say(f"data: preparing {target} by {script.name}")
    try:
        done = subprocess.run([sys.executable, str(script), str(aside)], capture_output=True, text=True, check=False)
        if done.returncode != 0 or not aside.exists():
            last = (done.stderr.strip() or "it wrote nothing to the path it was given").splitlines()[-1]
            raise DataError(f"data.prepare: {script.name} failed: {last}")
        try:
            aside.rename(target)
        except OSError:
            if not target.exists():
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True) if aside.is_dir() else aside.unlink(missing_ok=True)


def data_manifest(spec: Spec) -> dict[str, JsonValue]:
    """Return the `manifest` of `data.source`."""
    return manifest(source(spec))


def data_fingerprint(spec: Spec) -> str:
    """Return the `source_digest` of `data.source`."""
    return source_digest(source(spec))


def feature_names(spec: Spec, schema: pa.Schema) -> tuple[str, ...]:
    """Return the features that the spec names, or all columns but label, key, time and excluded ones.

    Raise DataError for each column that the spec names and the data lacks.
    """
    names = tuple(schema.names)
    named = {
        "data.label": (spec.data.label,),
        "data.key": spec.data.key,
        "data.features": spec.data.features or (),
        "data.exclude": spec.data.exclude,
        "data.time": (spec.data.time,) if spec.data.time else (),
        "train.folds.group": spec.train.folds.group if spec.train.folds else (),
        "score.keep": spec.score.keep if spec.score.source is None else (),
    }
    problems = [
        f"{where}: column {name!r} is not in the data{suggestion(name, names)}; it has {', '.join(names)}"
        for where, columns in named.items()
        for name in columns
        if name not in names
    ]
    if problems:
        raise DataError(*problems)
    left_out = {spec.data.label, *spec.data.key, *spec.data.exclude, spec.data.time}
    features = spec.data.features or tuple(name for name in names if name not in left_out)
    if not features:
        raise DataError(f"data.features: no column is left to predict from; the data has {', '.join(names)}")
    return features


def table(spec: Spec, *, on: str | None, columns: Sequence[str], at: npt.NDArray[np.int64] | None = None) -> pa.Table:
    """Return the named columns of the rows in a window (None: of all rows), in the source's order.

    With `at`, ascending, only of the rows with these numbers, counted from 0 within the window.
    """
    found, seen = [], 0
    for part in parts(spec, on=on, columns=columns):
        low, high = (0, 0) if at is None else np.searchsorted(at, [seen, seen + part.num_rows])
        found.append(part if at is None else part.take(np.asarray(at[low:high], dtype=np.int64) - seen))
        seen += part.num_rows
    return pa.concat_tables(found, promote_options="default")


def parts(
    spec: Spec, *, on: str | None, columns: Sequence[str], pieces: Sequence[Piece] | None = None
) -> Iterator[pa.Table]:
    """Yield what `table` returns, a bounded number of rows at a time, or of some pieces alone.

    Raise DataError at the end where there was no row in any piece of the source.
    """
    rows = source(spec)
    needed, some = columns_needed(spec.data, on), False
    wanted = None if needed is None else list(dict.fromkeys([*columns, *needed]))
    for part in (
        part for piece in (rows.pieces() if pieces is None else pieces) for part in rows.read(piece, columns=wanted)
    ):
        inside = part.filter(pa.array(in_window(spec.data, on, part))) if on is not None else part
        if inside.num_rows:
            some = True
            yield inside.select([*columns])
    if not some and pieces is None:
        window = spec.data.window(on, where="data.windows") if on else 1.0
        shown = f"[{window[0]}, {window[1]})" if isinstance(window, tuple) else f"a share of {window:g}"
        raise DataError(f"data.windows.{on}: {shown} holds no row of the data" if on else "the source holds no row")


def infer_contract(spec: Spec, *, on: str) -> Contract:
    """Return the contract that the labelled rows of a window keep, with the spec's overrides."""
    features = feature_names(spec, source(spec).schema())
    rows = parts(spec, on=on, columns=list(dict.fromkeys([*features, spec.data.label, *spec.data.key])))
    return infer(
        (part.filter(part.column(spec.data.label).is_valid()) for part in rows),
        features=features,
        label=spec.data.label,
        task=spec.data.task,
        key=spec.data.key,
        overrides=spec.data.contract,
    )


def examples(spec: Spec, *, on: str, contract: Contract, limit: int | None = None) -> Examples:
    """Return the labelled rows of a window, encoded; at most `limit`, spread evenly over them.

    Raise DataError when a row breaks the contract, naming the first ten, or when no row has a label.
    """
    names = list(dict.fromkeys([*contract.names, contract.label.name]))
    rows = _labelled(table(spec, on=on, columns=names), contract)
    if limit is not None and rows.num_rows > limit:
        rows = rows.take(np.linspace(0, rows.num_rows - 1, limit).astype(np.int64))
    return _encoded(rows, contract, on=on)[0]


def examples_in_folds(spec: Spec, *, on: str, contract: Contract) -> tuple[Examples, tuple[Fold, ...]]:
    """Return the examples of a window, and the folds of `train.folds`, none without it. Raise DataError as both do."""
    if spec.train.folds is None:
        return examples(spec, on=on, contract=contract), ()
    asked = spec.train.folds
    deciding = columns_of_folds(asked, key=spec.data.key, time=spec.data.time)
    names = list(dict.fromkeys([*contract.names, contract.label.name, *deciding]))
    rows = _labelled(table(spec, on=on, columns=names), contract)
    made, keep = _encoded(rows, contract, on=on)
    kept = rows.filter(pa.array(keep)).select([*(deciding or names)])
    return made, folds(asked, kept, made.y, classes=len(contract.label.classes))


def examples_in_order(spec: Spec, *, on: str, contract: Contract) -> Examples:
    """Return the examples of a window in the order of `data.time`, without it in the source's order."""
    time = [spec.data.time] if spec.data.time else []
    rows = _labelled(
        table(spec, on=on, columns=list(dict.fromkeys([*contract.names, contract.label.name, *time]))), contract
    )
    if time:
        rows = rows.take(np.argsort(microseconds(rows.column(time[0])), kind="stable"))
    return _encoded(rows, contract, on=on)[0]


def examples_by_period(spec: Spec, *, on: str, contract: Contract) -> dict[str, Examples]:
    """Return the examples of a window by `monitor.period` of `data.time`; one period `all` without a time column.

    A period without a row that keeps the contract is left out.
    """
    time = [spec.data.time] if spec.data.time else []
    rows = _labelled(
        table(spec, on=on, columns=list(dict.fromkeys([*contract.names, contract.label.name, *time]))), contract
    )
    names = period_names(rows.column(time[0]), spec.monitor.period) if time else pa.repeat("all", rows.num_rows)
    made = {name: _kept(part, contract)[0] for name, part in split(rows, names)}
    return {name: part for name, part in made.items() if len(part.y)}


def encoded_rows(rows: pa.Table, contract: Contract) -> Examples:
    """Return the rows of a table that have a label and keep the contract, encoded."""
    return _kept(_labelled(rows, contract), contract)[0]


def _labelled(rows: pa.Table, contract: Contract) -> pa.Table:
    return rows.filter(rows.column(contract.label.name).is_valid())


def _encoded(rows: pa.Table, contract: Contract, *, on: str) -> tuple[Examples, npt.NDArray[np.bool_]]:
    made, keep, violations = _kept(rows, contract)
    if len(made.y) == 0:
        shown = "; ".join(f"{v.column} {v.rule}, {v.value} given" for v in violations[:10])
        raise DataError(f"data.windows.{on}: no labelled row keeps the contract{': ' + shown if shown else ''}")
    if len(made.y) < rows.num_rows:
        left_out = rows.num_rows - len(made.y)
        say(f"data: {left_out:,} of {rows.num_rows:,} rows of window {on!r} break the contract and are left out")
    return made, keep


def _kept(rows: pa.Table, contract: Contract) -> tuple[Examples, npt.NDArray[np.bool_], tuple[Violation, ...]]:
    encoded = encode(contract, {name: rows.column(name) for name in contract.names})
    y = encode_label(contract.label, rows.column(contract.label.name))
    keep = encoded.ok & np.isfinite(y)
    return Examples(x=np.ascontiguousarray(encoded.x[keep]), y=y[keep]), keep, encoded.violations


def read_contract(version: Path) -> Contract:
    """Return the contract in a model version's folder."""
    return Contract.from_json(orjson.loads((version / "contract.json").read_bytes()))
