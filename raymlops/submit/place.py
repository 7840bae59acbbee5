"""Where a job runs and by which command line: in place on this machine, or in a copy of this folder elsewhere."""

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from raymlops.cluster.ports import listener
from raymlops.errors import SpecError
from raymlops.spec import home_variables
from raymlops.submit.address import is_local
from raymlops.submit.fence import REPORT
from raymlops.submit.package import packed
from raymlops.submit.ray_jobs import RayJobs

__all__ = ["Place", "place_of"]

# Time for a stage to write what it holds between SIGTERM and SIGKILL; Ray's own 3 s are short for a checkpoint.
_STOP_WAIT_S = "30"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """`here`: the job runs on this machine and sees the files and the ledger that this process sees."""

    here: bool
    python: str
    spec: Path

    def entrypoint(self, command: Sequence[str]) -> str:
        """Return the shell line that Ray runs; `exec` makes the stage itself the process whose end Ray sees."""
        line = f"exec {shlex.join(command)}"
        return f"cd {shlex.quote(str(Path.cwd()))} && {line}" if self.here else line

    def variables(self) -> dict[str, str]:
        """Return the environment of every job here."""
        fixed = {"RAY_JOB_STOP_WAIT_TIME_S": _STOP_WAIT_S}
        key = {name: os.environ[name] for name in ("RAYMLOPS_KEY",) if os.environ.get(name)}
        if self.here:
            return fixed | home_variables() | key
        # Elsewhere artefacts lie where that machine keeps them, unless somebody says that both share a folder.
        said = {name: os.environ[name] for name in home_variables() if os.environ.get(name)}
        return fixed | {REPORT: "1"} | said | key

    def working_dir(self, server: RayJobs) -> str | None:
        """Return Ray's address of the current folder's copy, uploading it if need be; None in place."""
        if self.here:
            return None
        name, data = packed(Path.cwd())
        if not server.has_package(name):
            server.put_package(name, data)
        return f"gcs://{name}"


def place_of(url: str, spec_path: Path) -> Place:
    """Return where jobs of a job server run. SpecError: the spec lies outside the folder that is sent there."""
    if runs_here(url):
        return Place(here=True, python=sys.executable, spec=spec_path.absolute())
    try:
        relative = spec_path.resolve().relative_to(Path.cwd().resolve())
    except ValueError as error:
        raise SpecError(f"{spec_path}: lies outside {Path.cwd()}, the folder that is sent to {url}") from error
    return Place(here=False, python="python", spec=relative)


def runs_here(url: str) -> bool:
    """Return whether a job server is a Ray of this machine, not the near end of a tunnel to another one."""
    if not is_local(url):
        return False
    _, words = listener(urlsplit(url).port or 0)
    return any(word.endswith("dashboard.py") for word in words)
