"""No driver's error leaves the room: every class of error there is goes through the seam."""

from __future__ import annotations

import sqlite3

import psycopg
import psycopg.errors
import pytest
import sqlalchemy.exc

from headgate.errors import Conflict, HeadgateError, StoreUnavailable
from headgate.storage.seam import mapped, translate


def subclasses(root):
    """The class and all below it."""
    found = {root}
    for child in root.__subclasses__():
        found |= subclasses(child)
    return found


SQLALCHEMY = sorted(
    (each for each in subclasses(sqlalchemy.exc.SQLAlchemyError) if issubclass(each, Exception)),
    key=str,
)
DRIVERS = sorted(subclasses(sqlite3.Error) | subclasses(psycopg.Error), key=str)


def made(kind, *arguments):
    """An instance without its constructor, for classes that want a statement and what not."""
    error = kind.__new__(kind)
    Exception.__init__(error, *arguments)
    return error


def wrapped(orig):
    return sqlalchemy.exc.OperationalError("SELECT secret", {"password": "hunter2"}, orig)


@pytest.mark.parametrize("kind", SQLALCHEMY, ids=lambda kind: kind.__name__)
def test_every_error_of_sqlalchemy_becomes_ours(kind):
    error = made(kind, "boom")
    if isinstance(error, sqlalchemy.exc.StatementError):
        error.orig = sqlite3.Error("boom")
    with pytest.raises(HeadgateError), mapped("sqlite:///x"):
        raise error


@pytest.mark.parametrize("kind", DRIVERS, ids=lambda kind: kind.__name__)
def test_every_error_of_the_drivers_becomes_ours(kind):
    assert isinstance(translate(wrapped(made(kind, "boom")), "x"), StoreUnavailable | Conflict)
    if issubclass(kind, sqlite3.Error):
        with pytest.raises(HeadgateError), mapped("sqlite:///x"):
            raise made(kind, "boom")


def test_errors_of_ours_and_of_others_pass_unchanged():
    with pytest.raises(KeyError), mapped("x"):
        raise KeyError
    ours = Conflict("ours")
    with pytest.raises(Conflict) as caught, mapped("x"):
        raise ours
    assert caught.value is ours


def test_the_cause_is_kept_for_the_log():
    with pytest.raises(StoreUnavailable) as caught, mapped("x"):
        raise sqlite3.OperationalError("boom")
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (sqlite3.SQLITE_BUSY, "another process holds it"),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, "another process holds it"),
        (sqlite3.SQLITE_LOCKED, "another process holds it"),
        (sqlite3.SQLITE_READONLY_DBMOVED, "owner and permissions"),
        (sqlite3.SQLITE_FULL, "free some on its disk"),
        (sqlite3.SQLITE_IOERR_FSYNC, "disk failed"),
        (sqlite3.SQLITE_CORRUPT, "restore a backup"),
        (sqlite3.SQLITE_NOTADB, "not a SQLite database"),
        (sqlite3.SQLITE_CANTOPEN, "directory exists"),
        (sqlite3.SQLITE_ERROR, "check that it runs"),
    ],
)
def test_each_failure_of_sqlite_comes_with_its_remedy(code, remedy):
    orig = sqlite3.OperationalError("boom")
    orig.sqlite_errorcode = code
    error = translate(wrapped(orig), "sqlite:///x.db")
    assert isinstance(error, StoreUnavailable)
    assert str(error).startswith("the store sqlite:///x.db does not answer: boom; ")
    assert remedy in str(error)


@pytest.mark.parametrize(
    "kind", [psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected]
)
def test_a_change_that_lost_to_another_is_a_conflict(kind):
    assert isinstance(translate(wrapped(kind("boom")), "x"), Conflict)


def test_neither_the_statement_nor_its_values_are_told():
    error = translate(wrapped(sqlite3.OperationalError("line one\nline two")), "x")
    assert "SELECT" not in str(error)
    assert "hunter2" not in str(error)
    assert "line two" not in str(error)


def test_an_error_with_nothing_to_say_is_named():
    assert "TimeoutError" in str(translate(TimeoutError(), "x"))
