"""Write files so that a reader sees the old or the new one, never half of one."""

import os
from pathlib import Path
from uuid import uuid4

__all__ = ["write_aside"]


def write_aside(path: Path, data: bytes, *, replace: bool = True) -> bool:
    """Write beside `path`, fsync, then move into place. Return whether this call put it there.

    With `replace=False` an existing file stays and the answer is False: the first of many writers wins.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
    try:
        with aside.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            aside.replace(path)
            return True
        try:
            os.link(aside, path)
        except FileExistsError:
            return False
        return True
    finally:
        aside.unlink(missing_ok=True)
