"""A SQLite or PostgreSQL database behind one small face: a transaction to read, one to write."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from headgate.errors import ConfigurationError, StoreUnavailable
from headgate.storage.seam import mapped

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from sqlalchemy import URL, Connection, Engine

__all__ = ["Database", "connect"]

_DRIVERS: Final = {
    "sqlite": "sqlite+pysqlite",
    "sqlite+pysqlite": "sqlite+pysqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
_CONNECT_SECONDS: Final = 5
_SILENCE_MS: Final = 10_000
"""How long PostgreSQL may be silent on the network before the connection is given up."""
_WRITES: Final = "headgate_writes"


class Database:
    """An engine of SQLAlchemy whose errors are ours.

    Attributes:
        where: the URL without its password.
        path: the file of a SQLite database; None for PostgreSQL.
    """

    def __init__(self, engine: Engine, path: Path | None) -> None:
        self.where = engine.url.render_as_string(hide_password=True)
        self.path = path
        self._engine = engine
        self._writer = engine.execution_options(**{_WRITES: True})
        self._closed = False

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads."""
        with self._open(self._engine) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that may write; committed when the block ends well.

        On SQLite it holds the only write lock from the start: a lock that is asked for half way fails
        at once when another writer came between, whatever the busy timeout.
        """
        with self._open(self._writer) as connection:
            yield connection

    @contextmanager
    def bare(self) -> Iterator[Any]:
        """The driver's own connection, outside of any transaction."""
        with mapped(self.where):
            connection = self._engine.raw_connection()
            try:
                yield connection
            finally:
                connection.close()

    def close(self) -> None:
        """Let go of every connection; whoever calls later gets `StoreUnavailable`."""
        self._closed = True
        self._engine.dispose()

    @contextmanager
    def _open(self, engine: Engine) -> Iterator[Connection]:
        if self._closed:
            message = f"the store {self.where} is closed; open it again"
            raise StoreUnavailable(message)
        with mapped(self.where), engine.begin() as connection:
            yield connection


def connect(address: str, busy_timeout: float) -> Database:
    """A database whose schema is not looked at yet, and which is not reached for yet.

    Raises:
        ConfigurationError: the URL is not understood, or its driver is missing.
    """
    url = _read_url(address)
    try:
        if url.drivername.startswith("sqlite"):
            return _sqlite(url, busy_timeout)
        return _postgresql(url, busy_timeout)
    except (ModuleNotFoundError, ImportError, NoSuchModuleError) as error:
        message = f"the driver for {url.drivername} is missing: pip install 'headgate[postgres]'"
        raise ConfigurationError(message) from error


def _read_url(address: str) -> URL:
    try:
        url = make_url(address)
        return url.set(drivername=_DRIVERS[url.drivername])
    except (ArgumentError, KeyError, ValueError) as error:
        # The address is not repeated: it may hold a password.
        message = (
            "the store's URL must read sqlite:///path/to/file.db or "
            "postgresql://user:password@host:port/database"
        )
        raise ConfigurationError(message) from error


def _sqlite(url: URL, busy_timeout: float) -> Database:
    if not url.database or url.database == ":memory:" or url.host or url.query:
        message = (
            "a SQLite store needs the path of a file and nothing else, as in "
            "sqlite:////var/lib/headgate/headgate.db; for one in memory use memory://"
        )
        raise ConfigurationError(message)
    engine = create_engine(url, connect_args={"timeout": busy_timeout})
    event.listen(engine, "connect", _on_sqlite_connect)
    event.listen(engine, "begin", _on_sqlite_begin)
    return Database(engine, Path(url.database))


def _on_sqlite_connect(connection: sqlite3.Connection, _record: object) -> None:
    # The driver begins transactions on its own, late and not for DDL; we begin them ourselves.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")
    # Each commit reaches the disk: a revoked token must stay revoked after a loss of power.
    connection.execute("PRAGMA synchronous = FULL")


def _on_sqlite_begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _postgresql(url: URL, busy_timeout: float) -> Database:
    given = {name: url.query.get(name) for name in ("connect_timeout", "tcp_user_timeout")}
    defaults = {"connect_timeout": _CONNECT_SECONDS, "tcp_user_timeout": _SILENCE_MS}
    engine = create_engine(
        url,
        connect_args={name: value for name, value in defaults.items() if not given[name]},
        pool_pre_ping=True,
        pool_timeout=_CONNECT_SECONDS,
    )
    wait_ms = max(1, round(busy_timeout * 1000))

    # SET LOCAL ends with the transaction, so that a pooler between us and the server does no harm.
    def on_begin(connection: Connection) -> None:
        connection.execute(text(f"SET LOCAL lock_timeout = {wait_ms}"))
        connection.execute(text(f"SET LOCAL statement_timeout = {_SILENCE_MS}"))

    event.listen(engine, "begin", on_begin)
    return Database(engine, None)
