"""API keys in files, one a line. Knows nothing of who holds them."""

from collections.abc import Sequence
from pathlib import Path

from raymlops.errors import SpecError

__all__ = ["read_keys"]


def read_keys(paths: Sequence[Path]) -> frozenset[str]:
    """Return the keys of all files; blank lines and lines that begin with `#` are left out.

    Raise SpecError for a file that cannot be read or holds no key: an empty file never leaves an endpoint open.
    """
    return frozenset(key for path in paths for key in _keys(path))


def _keys(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"serve.keys: {path} cannot be read: {error}") from error
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise SpecError(f"serve.keys: {path} holds no key; write one a line")
    wrong = [i for i, key in enumerate(keys) if not key.isascii() or not key.isprintable() or " " in key]
    if wrong:
        # The key itself is not shown: this text goes to logs.
        raise SpecError(f"serve.keys: {path}: key {wrong[0] + 1} holds a space or a character that is not ASCII")
    return keys
