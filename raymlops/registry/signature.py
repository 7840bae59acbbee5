"""Signatures of versions, made when they are registered and checked whenever one is loaded to answer.

A signature lies in `signatures/NAME/DIGEST.json` of the home, beside the version's folder, whose name it signs: the
folder is named by its bytes. Knows nothing of MLflow.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from raymlops.codec import dumps, write_aside
from raymlops.errors import Conflict
from raymlops.registry.access import access
from raymlops.registry.depot import share
from raymlops.registry.folder import verify_folder
from raymlops.registry.keys import is_signed, own_key
from raymlops.spec import home
from raymlops.values import Version

__all__ = ["check_loaded", "check_signature", "sign_version"]

_FIELDS = {"name", "digest", "key", "time", "signature"}


def sign_version(name: str, digest: str) -> None:
    """Sign with the key of `$RAYMLOPS_KEY`, if there is one and nobody has signed before."""
    key, path = own_key(), _path(name, digest)
    if key is None or path.exists():
        return
    said = {"name": name, "digest": digest, "key": key.public, "time": datetime.now(UTC).isoformat(timespec="seconds")}
    write_aside(path, dumps({**said, "signature": key.sign(_message(said))}))
    share(path)


def check_signature(version: Version) -> None:
    """Raise Conflict for a changed signature, and, with an access file, for one that is missing or not trusted.

    Trusted is the key of a trainer of the model, as they were when they signed.
    """
    known, path = access(), _path(version.name, version.digest)
    if known is None and not path.exists():
        return
    said = _read(path, version)
    if not is_signed(_message(said), said["signature"], said["key"]):
        raise Conflict(f"{path}: the signature of {version} is not by the key it names; it was changed after signing")
    then = datetime.fromisoformat(said["time"])
    if known is not None and not known.may(said["key"], "trainer", version.name, at=then):
        found = known.who(said["key"])
        who = found[0] if found else said["key"]
        raise Conflict(f"{version}: was signed by {who}, who is no trainer of {version.name} by the access file")


def check_loaded(version: Version) -> None:
    """Raise Conflict unless a version is, byte for byte, what was registered and signed. For whoever loads it."""
    verify_folder(version.path, version.digest)
    check_signature(version)


def _read(path: Path, version: Version) -> dict[str, Any]:
    try:
        said: dict[str, Any] = orjson.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise Conflict(
            f"{version}: is not signed, which the access file asks for; a trainer runs: raymlops models sign {version}"
        ) from error
    except ValueError as error:
        raise Conflict(f"{path}: is not a signature: {error}") from error
    if not isinstance(said, dict) or set(said) != _FIELDS or not all(isinstance(text, str) for text in said.values()):
        raise Conflict(f"{path}: is not a signature; {', '.join(sorted(_FIELDS))} are its words")
    if (said["name"], said["digest"]) != (version.name, version.digest):
        raise Conflict(f"{path}: signs {said['name']} {said['digest'][:12]}, not {version} {version.digest[:12]}")
    return said


def _message(said: dict[str, Any]) -> bytes:
    return b"raymlops version\n" + dumps({key: said[key] for key in ("name", "digest", "key", "time")})


def _path(name: str, digest: str) -> Path:
    return home() / "signatures" / name / f"{digest}.json"
