"""Look over what a run needs from this machine, and say what to do about what is missing. Changes nothing."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import psutil

from raymlops.cluster.local import LocalCluster, attached
from raymlops.cluster.ports import holder, is_free
from raymlops.cluster.processes import exposed, marked, memory_bytes
from raymlops.errors import RaymlopsError
from raymlops.spec import home

__all__ = ["Finding", "findings"]

_GIB = 2**30
_MEMORY_GIB = 4
_DISK_GIB = 5
_SHM_GIB = 1
# Ray's sockets lie about 65 bytes below the temporary folder, and a unix socket's path holds 107.
_TEMP_PATH = 40
_PORTS = {8000: "the endpoint (serve.port)", 8265: "the dashboard"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at; `advice` says what to do when it is not `ok`."""

    ok: bool
    what: str
    advice: str = ""


def findings() -> list[Finding]:
    """Return what was found, good and bad, in the order in which it matters."""
    cluster, health = _cluster()
    machine = [_python(), *_packages(), _memory(), _disk(), *_shared_memory(), _temporary_folder(), _home()]
    found = [*machine, *_ambient(), *_tokens(), *_ports(cluster), *health]
    return [replace(finding, advice="") if finding.ok else finding for finding in found]


def _python() -> Finding:
    found = ".".join(str(part) for part in sys.version_info[:3])
    return Finding(
        ok=sys.version_info >= (3, 11), what=f"Python {found}", advice="raymlops is made for Python 3.11 and later"
    )


def _packages() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    try:
        wanted = [Requirement(text) for text in requires("raymlops") or ()]
    except PackageNotFoundError:
        yield Finding(ok=False, what="raymlops is not installed as a package", advice="`pip install .` in its checkout")
        return
    needed = [requirement for requirement in wanted if not requirement.marker or requirement.marker.evaluate()]
    wrong = 0
    for requirement in needed:
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            found = "missing"
        if found == "missing" or not requirement.specifier.contains(found, prereleases=True):
            wrong += 1
            advice = f'`pip install "{requirement.name}{requirement.specifier}"`'
            yield Finding(ok=False, what=f"{requirement.name} {found}, needed {requirement.specifier}", advice=advice)
    if not wrong:
        yield Finding(ok=True, what=f"{len(needed)} packages in the versions that are needed, Ray {version('ray')}")


def _memory() -> Finding:
    limit = Path("/sys/fs/cgroup/memory.max")
    allowed = limit.read_text().strip() if limit.is_file() else "max"
    total = min(psutil.virtual_memory().total, int(allowed) if allowed.isdigit() else 2**63) / _GIB
    return Finding(
        ok=total >= _MEMORY_GIB,
        what=f"{total:.1f} GiB of memory",
        advice=f"a local cluster wants {_MEMORY_GIB} GiB; submit to another with --address",
    )


def _disk() -> Finding:
    folder = _existing(home())
    free = shutil.disk_usage(folder).free / _GIB
    return Finding(
        ok=free >= _DISK_GIB,
        what=f"{free:.1f} GiB free on the disk of {folder}",
        advice=f"free {_DISK_GIB} GiB, or set RAYMLOPS_HOME to another disk",
    )


def _shared_memory() -> Iterator[Finding]:
    folder = Path("/dev/shm")
    if folder.is_dir():
        free = shutil.disk_usage(folder).free / _GIB
        yield Finding(
            ok=free >= _SHM_GIB,
            what=f"{free:.1f} GiB of shared memory in {folder}",
            advice="Ray keeps tables there; in Docker give --shm-size=2g",
        )


def _temporary_folder() -> Finding:
    folder = tempfile.gettempdir()
    return Finding(
        ok=len(folder) <= _TEMP_PATH,
        what=f"temporary folder {folder}",
        advice="its path is too long for Ray's sockets; set TMPDIR to a short one such as /tmp",
    )


def _home() -> Finding:
    folder = _existing(home())
    return Finding(
        ok=os.access(folder, os.W_OK | os.X_OK),
        what=f"artefacts in {home()}",
        advice=f"{folder} cannot be written; set RAYMLOPS_HOME to a folder that can",
    )


def _ambient() -> Iterator[Finding]:
    names = [name for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS") if os.environ.get(name)]
    for name in names:
        yield Finding(
            ok=False,
            what=f"{name}={os.environ[name]!r} is set",
            advice=f"Ray prefers it to an address that is given; unset {name} or mean it",
        )
    if not names:
        yield Finding(ok=True, what="no RAY_ADDRESS or RAY_API_SERVER_ADDRESS is set")


def _tokens() -> Iterator[Finding]:
    path = Path.home() / ".ray" / "auth_token"
    if path.exists():
        yield Finding(
            ok=False,
            what=f"{path} exists",
            advice="every `ray start` of this user turns token authentication on because of it; remove it if unused",
        )
    if os.environ.get("RAY_AUTH_TOKEN"):
        yield Finding(
            ok=False,
            what="RAY_AUTH_TOKEN is set",
            advice="it is sent instead of the local cluster's own token by plain Ray tools; unset it for those",
        )


def _ports(cluster: LocalCluster | None) -> Iterator[Finding]:
    own = {process.pid for process in marked(cluster.marker)} if cluster else set()
    for port, use in _PORTS.items():
        who = None if is_free(port) else holder(port)
        mine = who is not None and any(who.endswith(f"(pid {pid})") for pid in own)
        state = "free" if who is None else "held by this cluster" if mine else f"held by {who}"
        yield Finding(
            ok=who is None or mine,
            what=f"port {port} for {use}: {state}",
            advice="another port is taken for the dashboard" if port == 8265 else "choose another in serve.port",
        )


def _cluster() -> tuple[LocalCluster | None, list[Finding]]:
    try:
        cluster = attached()
    except RaymlopsError as error:
        return None, [Finding(ok=False, what=str(error), advice="`raymlops down`, then `raymlops up`")]
    if cluster is None:
        return None, [Finding(ok=True, what="no local cluster is up; `raymlops up` starts one")]
    used = memory_bytes(cluster.marker) / 2**20
    up = Finding(ok=True, what=f"local cluster at {cluster.dashboard}, pid {cluster.pid}, {used:.0f} MiB")
    open_to_others = [
        Finding(ok=False, what=f"reachable from other machines: {line}", advice="see serve.host, or `raymlops down`")
        for line in exposed(cluster.marker)
    ]
    return cluster, [up, *open_to_others]


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())
