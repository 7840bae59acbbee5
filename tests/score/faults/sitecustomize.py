"""Let one step on the file system kill its process or fail: inside a block, or in every Python that finds this first.

A step is an open for writing, a write, fsync, rename, link, mkdir or unlink, told by its name and path. Python
imports a module of this name when it starts: with this folder on PYTHONPATH and a `Fault` as JSON in the file that
RAYMLOPS_FAULT names, drivers and the workers of a cluster that is up already do what the file says. Whoever does it
takes the file away, so that it is done once. Knows nothing of raymlops.
"""

import errno
import io
import json
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

__all__ = ["Fault", "arm", "faulty"]

VARIABLE = "RAYMLOPS_FAULT"
SLOW_S = 0.15
_REAL: dict[str, Any] = {
    name: getattr(os, name) for name in ("fsync", "rename", "replace", "link", "mkdir", "unlink", "write")
}
_OPEN, _IO_OPEN = os.open, io.open


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens at the `nth` step of a process that fits `step` and `path`, both regular expressions.

    `how`: `kill before` the step, `kill half` of a write, `kill after` it, or an errno such as `ENOSPC`; `slow`: every
    such step waits a moment and is noted beside the file, with the process's parent.
    `who`: `driver`, `worker` (of Ray), or empty for any. `always`: whether it happens again in the next process.
    """

    step: str = ""
    path: str = ""
    nth: int = 1
    how: str = "kill before"
    who: str = ""
    always: bool = False
    name: str = ""


def arm(file: Path, fault: Fault) -> None:
    """Let the processes that watch `file` do what a fault says; each armed fault counts from nothing."""
    aside = file.with_suffix(".aside")
    aside.write_text(json.dumps({**asdict(fault), "name": uuid4().hex}))
    aside.replace(file)


@contextmanager
def faulty(fault: Fault) -> Iterator[list[str]]:
    """Do in this process what a fault says; the value lists the steps that fitted it, as `STEP PATH`."""
    seen: list[str] = []
    _install(_Watch(lambda: fault, lambda: True, seen))
    try:
        yield seen
    finally:
        _restore()


@dataclass
class _Watch:
    current: Callable[[], Fault | None]
    claim: Callable[[], bool]
    seen: list[str]
    note: Callable[[str], object] = print

    def step(self, name: str, path: str, work: Callable[[], Any], half: Callable[[], Any] | None = None) -> Any:
        fault = self.current()
        if fault is None or not re.search(fault.step, name) or not re.search(fault.path, path):
            return work()
        if fault.how == "slow":
            self.note(f"{os.getppid()} {name} {path}")
            time.sleep(SLOW_S)
            return work()
        self.seen.append(f"{fault.name}{name} {path}")
        if sum(line.startswith(fault.name) for line in self.seen) != fault.nth or not self.claim():
            return work()
        if not fault.how.startswith("kill"):
            raise OSError(getattr(errno, fault.how), os.strerror(getattr(errno, fault.how)), path)
        if fault.how == "kill after":
            work()
        if fault.how == "kill half" and half:
            half()
        os.kill(os.getpid(), signal.SIGKILL)
        return None


def _install(watch: _Watch) -> None:
    class Raw(io.FileIO):
        def write(self, data: Any) -> int:
            real, view = super().write, memoryview(data).cast("B")
            return cast(
                "int",
                watch.step("write", os.fspath(self.name), lambda: real(data), lambda: real(view[: len(view) // 2])),
            )

    def opened(file: Any, mode: str = "r", *more: Any, **named: Any) -> Any:
        plain = isinstance(file, str | Path) and set(mode) & set("xwa") and "b" in mode and "+" not in mode
        if not plain:
            return _IO_OPEN(file, mode, *more, **named)
        path = os.fspath(file)
        return watch.step("open", path, lambda: io.BufferedWriter(Raw(path, mode.replace("b", ""))))

    def opened_low(path: Any, flags: int, *more: Any, **named: Any) -> int:
        if not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return _OPEN(path, flags, *more, **named)
        return cast("int", watch.step("open", os.fspath(path), lambda: _OPEN(path, flags, *more, **named)))

    def written(handle: int, data: Any) -> int:
        real = _REAL["write"]
        return cast(
            "int",
            watch.step(
                "write", _path(handle), lambda: real(handle, data), lambda: real(handle, data[: len(data) // 2])
            ),
        )

    def synced(handle: int) -> None:
        watch.step("fsync", _path(handle), lambda: _REAL["fsync"](handle))

    def two(name: str, step: str) -> Callable[..., None]:
        def call(source: Any, target: Any, **named: Any) -> None:
            watch.step(step, str(os.fspath(target)), lambda: _REAL[name](source, target, **named))

        return call

    def removed(path: Any, *, dir_fd: int | None = None) -> None:
        where = path if dir_fd is None else f"{_path(dir_fd)}/{os.fspath(path)}"
        watch.step("unlink", str(os.fspath(where)), lambda: _REAL["unlink"](path, dir_fd=dir_fd))

    def made(path: Any, *more: Any, **named: Any) -> None:
        watch.step("mkdir", str(os.fspath(path)), lambda: _REAL["mkdir"](path, *more, **named))

    io.open = opened
    os.open, os.write, os.fsync, os.mkdir = opened_low, written, synced, made  # type: ignore[assignment]
    os.unlink = removed
    os.rename, os.replace, os.link = two("rename", "rename"), two("replace", "rename"), two("link", "link")


def _restore() -> None:
    io.open, os.open = _IO_OPEN, _OPEN
    for name, real in _REAL.items():
        setattr(os, name, real)


def _path(handle: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{handle}")
    except OSError:
        return ""


def _from_file(file: Path) -> _Watch:
    me = "worker" if any("default_worker" in word for word in sys.orig_argv) else "driver"

    def current() -> Fault | None:
        try:
            fault = Fault(**json.loads(file.read_text()))
        except (OSError, ValueError):
            return None
        return fault if fault.who in ("", me) else None

    def claim() -> bool:
        fault = current()
        if fault is None or fault.always:
            return fault is not None
        try:
            _REAL["rename"](file, file.with_suffix(".done"))
        except OSError:
            return False  # another process was quicker
        return True

    def note(line: str) -> None:
        with open(file.with_suffix(".notes"), "a") as notes:
            notes.write(f"{line}\n")

    return _Watch(current, claim, [], note)


if __name__ == "sitecustomize" and VARIABLE in os.environ:
    _install(_from_file(Path(os.environ[VARIABLE])))
