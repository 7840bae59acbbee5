"""The one error tree, by what the reader can do about it. Knows nothing else of the package.

    RaymlopsError
    ├── SpecError        mend the YAML or the arguments      exit 2   HTTP 400
    ├── DataError        mend the data                       exit 2   HTTP 422
    ├── NotFound         name something that exists          exit 2   HTTP 404
    ├── Conflict         read again, then retry              exit 1   HTTP 409
    ├── Forbidden        ask who keeps the access file       exit 1   HTTP 403
    ├── EngineError      this model and this engine disagree exit 1   HTTP 500
    ├── StageFailed      read the cause it carries           exit 1   HTTP 500
    ├── MissingExtra     install the named package           exit 3   HTTP 501
    └── Unavailable      start or reach the named server     exit 3   HTTP 503

A message says where, what was given, what is allowed and what to do.
"""

from collections.abc import Sequence
from typing import ClassVar

__all__ = [
    "Conflict",
    "DataError",
    "EngineError",
    "Forbidden",
    "MissingExtra",
    "NotFound",
    "RaymlopsError",
    "SpecError",
    "StageFailed",
    "Unavailable",
]


class RaymlopsError(Exception):
    """Carry one or more problems, an exit code for the shell and a status for HTTP.

    >>> print(SpecError("train.trials: 0 is below 1", "name: missing"))
    train.trials: 0 is below 1
    name: missing
    """

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems: Sequence[str] = problems

    def __str__(self) -> str:
        return "\n".join(self.problems)


class SpecError(RaymlopsError):
    """The YAML or an argument is wrong: mend it."""

    exit_code = 2
    http_status = 400


class DataError(RaymlopsError):
    """The data does not fit what the spec or the contract says: mend the data, or the spec."""

    exit_code = 2
    http_status = 422


class NotFound(RaymlopsError):  # noqa: N818 - the name of the HTTP status it carries
    """What was named does not exist."""

    exit_code = 2
    http_status = 404


class Conflict(RaymlopsError):  # noqa: N818 - the name of the HTTP status it carries
    """Somebody else was first: read again, then retry."""

    http_status = 409


class Forbidden(RaymlopsError):  # noqa: N818 - the name of the HTTP status it carries
    """Who asks may not do this: use another key, or ask who keeps the access file."""

    http_status = 403


class EngineError(RaymlopsError):
    """An engine cannot compile or load this model."""


class StageFailed(RaymlopsError):  # noqa: N818 - reads as what happened
    """A stage ran and failed; the message carries the cause."""


class MissingExtra(RaymlopsError):  # noqa: N818 - the name of what is missing, not of a fault
    """A package of an extra is not installed."""

    exit_code = 3
    http_status = 501


class Unavailable(RaymlopsError):  # noqa: N818 - the name of the HTTP status it carries
    """A cluster or server that is needed does not answer."""

    exit_code = 3
    http_status = 503
