"""Where a version was made: commit and changes of the code beside the spec, every installed package, the machine.

It lies in `origins/DIGEST.json` of the home, and the journal names that digest. It is not among the bytes of a version:
the same rows, code and seeds give the same bytes on another day and machine. Knows nothing of models.
"""

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import sha256
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import orjson

from raymlops.codec import dumps, write_aside
from raymlops.errors import Conflict, NotFound, SpecError
from raymlops.spec import home

__all__ = ["Origin", "check_clean", "keep_origin", "origin", "read_origin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """``commit`` is None outside a repository of git. ``diff`` are changes of tracked files since then, as git has
    them (bytes that are no UTF-8 as `\\xff`), and ``untracked`` names of files that git neither tracks nor ignores.
    ``packages``: `name==version`, all.
    """

    commit: str | None
    diff: str
    untracked: tuple[str, ...]
    packages: tuple[str, ...]
    python: str
    system: str
    cpu: str
    cpus: int
    gpus: tuple[str, ...]


def origin() -> Origin:
    """Return what it is here and now, of the current folder."""
    commit = _git("rev-parse", "HEAD").strip() or None
    return Origin(
        commit=commit,
        diff=_git("diff", "HEAD", "--binary", "--no-color", "--no-ext-diff") if commit else "",
        untracked=_untracked() if commit else (),
        packages=tuple(sorted({f"{one.name}=={one.version}".lower() for one in distributions()})),
        python=platform.python_version(),
        system=platform.platform(),
        cpu=_cpu(),
        cpus=len(os.sched_getaffinity(0)),
        gpus=_gpus(),
    )


def check_clean(found: Origin, *, where: str) -> None:
    """Raise SpecError unless all of the code lies in a commit, naming what does not."""
    if found.commit is None:
        raise SpecError(f"{where}: true, but {Path.cwd()} is no repository of git with a commit, so code has no name")
    begins = "diff --git a/"
    changed = [line.removeprefix(begins).split(" b/")[0] for line in found.diff.splitlines() if line.startswith(begins)]
    names = sorted({*changed, *found.untracked})
    if found.diff or names:
        raise SpecError(
            f"{where}: true, but {len(names)} files are not as in commit {found.commit[:12]}: "
            f"{', '.join(names[:10])}{', …' * (len(names) > 10)}; commit them, or take the changes back"
        )


def keep_origin(found: Origin) -> str:
    """Write it down, once; return its digest, by which `read_origin` finds it."""
    text = dumps(asdict(found))
    name = sha256(text).hexdigest()
    if not _path(name).exists():
        write_aside(_path(name), text)
    return name


def read_origin(name: str) -> Origin:
    """Return what was kept by a digest; NotFound without it, Conflict when it is not, byte for byte, what was kept."""
    try:
        text = _path(name).read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"{_path(name)}: is not there, so nothing says where a version was made") from error
    if sha256(text).hexdigest() != name:
        raise Conflict(f"{_path(name)}: was changed after it was written; restore the file")
    value: Any = {key: tuple(one) if isinstance(one, list) else one for key, one in orjson.loads(text).items()}
    return Origin(**value)


def _path(name: str) -> Path:
    return home() / "origins" / f"{name}.json"


def _untracked() -> tuple[str, ...]:
    """Return the files that git would add, without those of the home: artefacts are no code."""
    top, inside = Path(_git("rev-parse", "--show-toplevel").strip()), home()
    names = _git("ls-files", "--others", "--exclude-standard", "--full-name", "-z", str(top)).split("\0")
    return tuple(sorted(name for name in names if name and inside not in (top / name).parents))


@lru_cache(maxsize=1)
def _gpus() -> tuple[str, ...]:
    return tuple(line.split(" (UUID")[0] for line in _said(["nvidia-smi", "-L"]).splitlines())


@lru_cache(maxsize=1)
def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _git(*words: str) -> str:
    return _said(["git", *words])


def _said(command: Sequence[str]) -> str:
    """Return what a program says, nothing where it is not installed or fails."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="backslashreplace", check=False, timeout=60,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
