"""Who may do what: people by their keys, their roles, and how many must agree before an alias moves.

Knows nothing of versions or of the journal. Without an access file whoever reaches the home may do everything; with
one nobody may do what it does not say. It is `$RAYMLOPS_ACCESS`, else `access.yaml` in the home; for a team let it lie
where only an admin can write.
"""

import getpass
import os
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from raymlops.errors import Forbidden, SpecError
from raymlops.registry.keys import check_public, own_key
from raymlops.spec import home, in_utc, read_mapping

__all__ = ["Access", "Person", "Role", "access", "allow"]

Role = Literal["viewer", "trainer", "approver", "deployer"]
_WHAT = "an access file is a mapping of `people:` and `aliases:`"
_APPROVED = ("champion", "previous")  # aliases that approvers move unless the file says otherwise; trainers the rest


class _Words(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Person(_Words):
    """Somebody, or a machine such as a build server. Whoever is named at all may view."""

    key: Annotated[str, AfterValidator(check_public)] = Field(description="public key")
    roles: tuple[Role, ...] = Field((), description="viewer, trainer, approver, deployer")
    models: tuple[str, ...] | None = Field(None, description="models that the roles hold for; else all")
    until: Annotated[datetime, AfterValidator(in_utc)] | None = Field(
        None, description="when the person left: what was signed earlier stays valid"
    )


class Rule(_Words):
    """How an alias moves."""

    role: Role | None = Field(None, description="else approver for champion and previous, trainer for others")
    approvals: int = Field(1, ge=1, le=9, description="people who must agree, whoever moves it among them")


class Access(_Words):
    """The access file."""

    people: Mapping[str, Person] = Field(min_length=1)
    aliases: Mapping[str, Rule] = {}

    @model_validator(mode="after")
    def _no_key_twice(self) -> Self:
        keys: dict[str, str] = {}
        for name, person in self.people.items():
            if person.key in keys:
                raise ValueError(f"people.{name}: has the key of {keys[person.key]}; everybody needs their own")
            keys[person.key] = name
        return self

    def who(self, public: str) -> tuple[str, Person] | None:
        """Return the name and person of a public key."""
        return next(((name, one) for name, one in self.people.items() if one.key == public), None)

    def may(self, public: str, role: Role, model: str, *, at: datetime) -> bool:
        """Return whether a key has a role for a model at a moment, in UTC."""
        found = self.who(public)
        if found is None:
            return False
        person = found[1]
        if person.until is not None and at.replace(tzinfo=None) >= person.until.replace(tzinfo=None):
            return False
        return (person.models is None or model in person.models) and (role == "viewer" or role in person.roles)

    def role(self, alias: str) -> Role:
        """Return the role of who moves an alias."""
        return self.aliases.get(alias, Rule()).role or ("approver" if alias in _APPROVED else "trainer")

    def approvals(self, alias: str) -> int:
        """Return how many people must agree before an alias moves."""
        return self.aliases.get(alias, Rule()).approvals


def access() -> Access | None:
    """Return what the access file says, None where there is none. Raise SpecError with every fault of it."""
    given = os.environ.get("RAYMLOPS_ACCESS")
    path = Path(given).expanduser() if given else home() / "access.yaml"
    try:
        changed = path.stat().st_mtime_ns
    except FileNotFoundError:
        if given:
            raise SpecError(f"RAYMLOPS_ACCESS: {path} is not there; nobody may do anything without it") from None
        return None
    return _read(path, changed)


def allow(role: Role, model: str) -> str:
    """Return who asks, by name; raise Forbidden unless their key has the role for the model.

    Without an access file everybody is allowed, and is named by user and host.
    """
    known = access()
    if known is None:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    key = own_key()
    if key is None:
        raise Forbidden(f"{model}: needs the role {role}; set RAYMLOPS_KEY to the file of your key")
    if not known.may(key.public, role, model, at=datetime.now(UTC)):
        found = known.who(key.public)
        held = f"{found[0]} has {', '.join(found[1].roles) or 'no role'}" if found else f"key {key.public} is nobody's"
        raise Forbidden(f"{model}: needs the role {role}, {held}; ask who keeps the access file")
    found = known.who(key.public)
    assert found is not None
    return found[0]


@lru_cache(maxsize=4)
def _read(path: Path, changed: int) -> Access:
    try:
        text = path.read_text(encoding="utf-8")
        return Access.model_validate(read_mapping(text, name=str(path), what=_WHAT))
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read: {error}") from error
    except ValidationError as error:
        lines = [f"{path}: {'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise SpecError(*lines) from error
