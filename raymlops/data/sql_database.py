"""A database by its SQLAlchemy URL: connections that nobody keeps, and errors without passwords. Knows no rows."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from raymlops.errors import MissingExtra, RaymlopsError, SpecError, Unavailable
from raymlops.spec import expand

if TYPE_CHECKING:
    from sqlalchemy import Engine

__all__ = ["literal_password", "open_database", "told"]

_BUSY_S = 300  # how long a connection to SQLite waits: while a piece is read, what goes into the same file waits
_BUSY = {"SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_FULL", "SQLITE_READONLY"}


def open_database(url: str, *, where: str) -> "Engine":
    """Return an engine whose connections end when they are closed; `${VARIABLES}` of the URL are filled in.

    PostgreSQL is spoken to through psycopg unless the URL names another driver. Raise SpecError for what is no URL,
    MissingExtra where the driver is not installed.
    """
    from sqlalchemy import create_engine, make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError
    from sqlalchemy.pool import NullPool

    whole = expand(url)
    if unset := re.search(r"\$\{\w+\}", whole):
        raise SpecError(f"{where}: url: {unset[0]} is not in the environment")
    try:
        made = make_url(whole)
        if made.drivername == "postgresql":
            made = made.set(drivername="postgresql+psycopg")
        waits = {"timeout": _BUSY_S} if made.get_backend_name() == "sqlite" else {}
        return create_engine(made, poolclass=NullPool, connect_args=waits)
    except (ImportError, NoSuchModuleError) as error:
        raise MissingExtra(f"{where}: {error}; install the driver, as `pip install raymlops[sql]`") from error
    except (ArgumentError, ValueError):
        # The cause would show the URL, and a password in it.
        raise SpecError(
            f"{where}: url: is no URL of a database; write postgresql://USER:${{PASSWORD}}@HOST/NAME or sqlite:///FILE"
        ) from None


def literal_password(url: str) -> bool:
    """Return whether a password stands in the URL itself, not in a variable that the URL names."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        made = make_url(url)
    except (ArgumentError, ValueError):
        return False
    words = [made.password, made.query.get("password")]
    return any(word is not None and "$" not in str(word) for word in words)


@contextmanager
def told(engine: "Engine", *, what: str, kind: type[RaymlopsError]) -> Iterator[None]:
    """Raise what a driver raises as `kind`, or as Unavailable where the server, not the statement, is the cause.

    StageFailed stays StageFailed: what was written is not seen, whatever the cause.
    """
    from sqlalchemy.exc import DBAPIError, SQLAlchemyError

    drivers = (sqlite3.Error, engine.dialect.loaded_dbapi.Error)
    try:
        yield
    except (SQLAlchemyError, *drivers) as error:
        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        away = kind.exit_code == 2 and _is_away(error, cause)
        password, message = str(engine.url.password or ""), f"{what}: {_words(cause)}"
        # A short password is part of many a word.
        message = message.replace(password, "***") if len(password) > 3 else message
        raise (Unavailable if away else kind)(message) from error


def _is_away(error: BaseException, cause: BaseException) -> bool:
    if isinstance(cause, sqlite3.Error):
        return getattr(cause, "sqlite_errorname", "").startswith(tuple(_BUSY))
    state = getattr(cause, "sqlstate", None)
    if type(cause).__module__.startswith("psycopg"):
        # Connection, resources, operator intervention; what is lost on the way has no state at all.
        return state[:2] in ("08", "28", "3D", "53", "57") if state else type(cause).__name__ == "OperationalError"
    return bool(getattr(error, "connection_invalidated", False))


def _words(cause: BaseException) -> str:
    """Return the first line of a message, and the line of detail with which PostgreSQL names a row."""
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    detail = [line.removeprefix("DETAIL:").strip() for line in lines[1:] if line.startswith("DETAIL:")]
    return " ".join([lines[0], *detail])
