"""Ed25519 keys (RFC 8032): whoever holds the private one can sign, whoever knows the public one can check.

Knows nothing of people, roles or versions. A private key is a PEM file that only its owner may read; `RAYMLOPS_KEY`
names it. A public key is a line of text, such as `ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=`.
"""

import base64
import binascii
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from raymlops.errors import Conflict, SpecError

__all__ = ["Signer", "check_public", "is_signed", "new_key", "own_key"]

_KIND = "ed25519:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """A private key in use: its ``public`` half as text, and ``sign``, which returns a signature as text."""

    public: str
    sign: Callable[[bytes], str]


def new_key(path: Path) -> str:
    """Write a new private key, readable by its owner alone, and return its public half. Conflict if the file exists."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    made = Ed25519PrivateKey.generate()
    pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
    except FileExistsError as error:
        raise Conflict(f"{path}: exists already; a key is never written over, name another file") from error
    except OSError as error:
        raise SpecError(f"{path}: the key cannot be written: {error}") from error
    return _text(made.public_key().public_bytes_raw())


def own_key() -> Signer | None:
    """Return the key that `$RAYMLOPS_KEY` names, None without it; raise SpecError if it is none, or open to others."""
    given = os.environ.get("RAYMLOPS_KEY")
    if not given:
        return None
    path = Path(given).expanduser()
    try:
        state = path.stat()
    except OSError as error:
        raise SpecError(f"RAYMLOPS_KEY: {path} cannot be read: {error}") from error
    if state.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise SpecError(f"RAYMLOPS_KEY: {path} is open to others; a private key is for its owner: chmod 600 {path}")
    return _read(path, state.st_mtime_ns)


def is_signed(message: bytes, signature: str, public: str) -> bool:
    """Return whether a signature of the message was made by the private half of a public key."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(_bytes(public)).verify(_bytes(signature), message)
    except (InvalidSignature, ValueError):
        return False
    return True


def check_public(text: str) -> str:
    """Return the text of a public key; raise ValueError if it is none."""
    if len(_bytes(text)) != 32:
        raise ValueError(f"{text!r:.60} is no public key; `raymlops models key FILE` makes one and shows it")
    return text


@lru_cache(maxsize=4)
def _read(path: Path, changed: int) -> Signer:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        made = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise SpecError(f"RAYMLOPS_KEY: {path} is no private key: {error}") from error
    if not isinstance(made, Ed25519PrivateKey):
        raise SpecError(f"RAYMLOPS_KEY: {path} is a key of another kind; `raymlops models key FILE` makes one")
    return Signer(public=_text(made.public_key().public_bytes_raw()), sign=lambda message: _text(made.sign(message)))


def _text(raw: bytes) -> str:
    return _KIND + base64.b64encode(raw).decode()


def _bytes(text: str) -> bytes:
    if not text.startswith(_KIND):
        raise ValueError(f"{text!r:.60} does not begin with {_KIND}")
    try:
        return base64.b64decode(text.removeprefix(_KIND), validate=True)
    except binascii.Error as error:
        raise ValueError(f"{text!r:.60} is not base64: {error}") from error
