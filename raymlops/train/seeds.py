"""The seed tree of a sweep: sweep, then trial, fold and worker. Pure; knows nothing of what the seeds are for."""

from hashlib import sha256

from raymlops.codec import dumps

__all__ = ["seed_of"]


def seed_of(root: int, *path: str | int) -> int:
    """Return the seed, in [0, 2^31), of a place below a root: the first bytes of a sha256 of both.

    >>> seed_of(0, "trial", 3) == seed_of(0, "trial", 3) != seed_of(0, "trial", 3, "fold", 0)
    True
    """
    return int.from_bytes(sha256(dumps([root, *path])).digest()[:4], "big") >> 1
