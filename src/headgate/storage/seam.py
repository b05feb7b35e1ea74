"""The seam where drivers' errors become ours. Nothing else in this room catches them."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from sqlalchemy.exc import IntegrityError, SQLAlchemyError, StatementError

from headgate.errors import Conflict, HeadgateError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["mapped", "translate"]

# SQLite's primary result codes that have a remedy of their own.
_SQLITE_REMEDIES: Final = {
    sqlite3.SQLITE_BUSY: "another process holds it; wait for that, or stop it",
    sqlite3.SQLITE_LOCKED: "another process holds it; wait for that, or stop it",
    sqlite3.SQLITE_READONLY: "it cannot be written; check its owner and permissions",
    sqlite3.SQLITE_FULL: "there is no room left; free some on its disk",
    sqlite3.SQLITE_IOERR: "its disk failed; check the disk and the system's log",
    sqlite3.SQLITE_CORRUPT: "it is damaged; restore a backup, or move it away to start empty",
    sqlite3.SQLITE_NOTADB: "it is not a SQLite database; name another file, or move it away",
    sqlite3.SQLITE_CANTOPEN: "check that its directory exists and may be written",
}
_OTHER_REMEDY: Final = "check that it runs, that it can be reached, and its log"
_RETRY_STATES: Final = frozenset({"40001", "40P01"})
"""PostgreSQL: serialization failure, deadlock. Another change won; ours was not made."""
_MAX_REASON: Final = 200


@contextmanager
def mapped(where: str) -> Iterator[None]:
    """Let no driver's error out of the block."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise translate(error, where) from error


def translate(error: Exception, where: str) -> HeadgateError:
    """The error of ours that says what this driver's error says.

    Args:
        error: from SQLAlchemy, a driver or the operating system.
        where: the store's URL without its password.
    """
    cause = error.orig if isinstance(error, StatementError) and error.orig else error
    if isinstance(error, IntegrityError) or getattr(cause, "sqlstate", None) in _RETRY_STATES:
        message = "another change was made at the same moment; read again and repeat the change"
        return Conflict(message)
    reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0][:_MAX_REASON]
    return StoreUnavailable(f"the store {where} does not answer: {reason}; {_remedy(cause)}")


def _remedy(cause: BaseException) -> str:
    code = getattr(cause, "sqlite_errorcode", None)
    if isinstance(code, int):
        return _SQLITE_REMEDIES.get(code & 0xFF, _OTHER_REMEDY)
    return _OTHER_REMEDY
