"""The current folder as a package for a cluster elsewhere, in Ray's form. Knows nothing of stages.

The zip is the same for the same files, so Ray's name of it, which holds its digest, is sent only once.
"""

import hashlib
import io
import subprocess
import zipfile
from pathlib import Path

from raymlops.errors import SpecError
from raymlops.spec import home

__all__ = ["packed", "zipped"]

_LEFT_OUT = {
    ".git",
    ".hg",
    ".venv",
    "venv",
    "__pycache__",
    "node_modules",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
}
# The dashboard of Ray 2.60 takes request bodies of 100 MiB.
_MOST_BYTES = 100 * 2**20
_DATE = (1980, 1, 1, 0, 0, 0)


def packed(folder: Path) -> tuple[str, bytes]:
    """Return Ray's name and the bytes of a folder's package; SpecError when it is too large to send."""
    data = zipped(folder, files_of(folder))
    if len(data) > _MOST_BYTES:
        raise SpecError(
            f"{folder}: {len(data):,} bytes packed, {_MOST_BYTES:,} are the most a job server takes; "
            "put data elsewhere or list it in .gitignore"
        )
    return f"_ray_pkg_{hashlib.sha256(data).hexdigest()[:32]}.zip", data


def zipped(folder: Path, files: list[Path]) -> bytes:
    """Return a zip of files below a folder, without times and owners."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(files):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _DATE)
            entry.external_attr = (path.stat().st_mode & 0o777) << 16
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return out.getvalue()


def files_of(folder: Path) -> list[Path]:
    """Return what belongs to a folder: what git does not ignore, else all but caches, environments and artefacts."""
    listed = _listed_by_git(folder)
    candidates = listed if listed is not None else list(folder.rglob("*"))
    artefacts = home()
    return [
        path
        for path in candidates
        if path.is_file()
        and not _LEFT_OUT.intersection(path.relative_to(folder).parts)
        and not path.is_relative_to(artefacts)
    ]


def _listed_by_git(folder: Path) -> list[Path] | None:
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return [folder / name for name in done.stdout.split("\0") if name]
