"""What a batch run left behind: the manifest that says what became of its rows, and where the answers are read back.

Knows nothing of how rows were scored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
import pyarrow as pa

from raymlops.errors import NotFound
from raymlops.plugins import build
from raymlops.protocols import Source
from raymlops.spec import home
from raymlops.values import JsonValue, Version

__all__ = ["ScoreManifest", "committed_scores", "latest_scores", "read_answers", "read_scores", "run_folder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreManifest:
    """One committed batch run; rows_in = scored + dead + filtered. ``input`` is the source of its rows, as a spec names
    it; ``source`` reads the answers back.

    ``finished``: ISO 8601, UTC. ``on``: the window, None for all rows. ``keep``: columns passed through.
    ``quarantined``: files that were left out. ``redrives``: the run whose dead rows these are, if any, of which
    ``missing`` were not found again.
    """

    run: str
    name: str
    number: int
    digest: str
    on: str | None
    rows_in: int
    scored: int
    dead: int
    filtered: int
    quarantined: tuple[str, ...]
    keep: tuple[str, ...]
    input: JsonValue
    source: JsonValue
    finished: str
    redrives: str = ""
    missing: int = 0


def run_folder(name: str, run: str) -> Path:
    """Return the folder with the record of a batch run: its plan, attempts, pieces, dead letters and manifest."""
    return home() / "runs" / name / run


def read_scores(folder: Path) -> ScoreManifest:
    """Return the manifest in a run's folder; raise NotFound when the run has not been committed."""
    try:
        value = orjson.loads((folder / "manifest.json").read_bytes())
    except FileNotFoundError as error:
        raise NotFound(f"{folder}: holds no committed run; run `raymlops score SPEC` again") from error
    fields = (
        "run", "name", "number", "digest", "on", "rows_in", "scored", "dead", "filtered", "input", "source", "finished",
    )  # fmt: skip
    left_out = tuple(one["file"] for one in value["quarantined"])
    keep = tuple(value["keep"])
    return ScoreManifest(
        **{name: value[name] for name in fields}, keep=keep, quarantined=left_out,
        redrives=value.get("redrives", ""), missing=value.get("missing", 0),
    )  # fmt: skip


def committed_scores(name: str) -> list[ScoreManifest]:
    """Return the committed runs of a model, of all its versions, the oldest first."""
    runs = [read_scores(path.parent) for path in run_folder(name, "").glob("*/manifest.json")]
    return sorted(runs, key=lambda run: run.finished)


def latest_scores(version: Version, *, on: str | None = None) -> ScoreManifest:
    """Return the newest committed run of a version, of the named window if one is given; raise NotFound.

    Redrives are passed over: they hold the few rows that another run left dead.
    """
    runs = [run for run in committed_scores(version.name) if not run.redrives]
    fitting = [run for run in runs if run.digest == version.digest and (on is None or run.on == on)]
    if not fitting:
        where = f" of window {on!r}" if on else ""
        folder = run_folder(version.name, "")
        raise NotFound(f"{version}: has no scores{where} in {folder}; run `raymlops score SPEC --model {version}`")
    return fitting[-1]


def read_answers(scores: ScoreManifest, *, columns: Sequence[str] | None = None) -> pa.Table:
    """Return the rows of a run as its sink holds them, in the order of the input; `columns` None means all."""
    source: Source = build("raymlops.data.sources", scores.source, where="the manifest's source")
    if scores.scored == 0:
        return pa.table({name: pa.nulls(0) for name in columns or ()})
    tables = (table for piece in source.pieces() for table in source.read(piece, columns=columns))
    return pa.concat_tables(tables, promote_options="default")
