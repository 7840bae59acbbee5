"""Name the code that runs: a digest of source files, for identities and lineage."""

from functools import lru_cache
from pathlib import Path

from raymlops.codec.canonical import digest, digest_file

__all__ = ["code_digest"]


@lru_cache(maxsize=8)
def code_digest(*rooms: str) -> str:
    """Return the sha256 over the Python files of the named rooms or files; of the whole package without a name."""
    package = Path(__file__).parent.parent
    roots = [package / room for room in rooms] or [package]
    files = sorted(file for root in roots for file in ([root] if root.is_file() else root.rglob("*.py")))
    return digest([[file.relative_to(package).as_posix(), digest_file(file)] for file in files])
