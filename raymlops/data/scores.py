"""What a batch run left behind: the manifest that makes its files visible. Knows nothing of how rows were scored."""

from dataclasses import dataclass
from pathlib import Path

import orjson

from raymlops.errors import NotFound
from raymlops.spec import home
from raymlops.values import Version

__all__ = ["ScoreManifest", "latest_scores", "read_scores"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreManifest:
    """One finished batch run; rows_in = scored + dead + filtered. ``files`` are absolute paths of Parquet parts."""

    run: str
    name: str
    number: int
    digest: str
    on: str | None
    rows_in: int
    scored: int
    dead: int
    filtered: int
    files: tuple[str, ...]
    path: Path
    finished: str


def read_scores(folder: Path) -> ScoreManifest:
    """Return the manifest in a run's folder."""
    value = orjson.loads((folder / "manifest.json").read_bytes())
    fields = ("run", "name", "number", "digest", "on", "rows_in", "scored", "dead", "filtered", "finished")
    files = tuple(str(folder / file["name"]) for file in value["files"])
    return ScoreManifest(**{name: value[name] for name in fields}, files=files, path=folder)


def latest_scores(version: Version, *, on: str | None = None) -> ScoreManifest:
    """Return the newest finished run of a version, of the named window if one is given; raise NotFound."""
    folder = home() / "scores" / version.name
    runs = [read_scores(path.parent) for path in folder.glob("*/manifest.json")]
    fitting = [run for run in runs if run.digest == version.digest and (on is None or run.on == on)]
    if not fitting:
        where = f" of window {on!r}" if on else ""
        raise NotFound(f"{version}: has no scores{where} in {folder}; run `raymlops score SPEC --model {version}`")
    return max(fitting, key=lambda run: run.finished)
