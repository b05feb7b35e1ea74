"""Bring a database to the newest schema, also when several processes start on it at once.

At the newest revision, which is nearly always, this is one query and Alembic is not imported (0.2 s).
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import column, inspect, select, table, text

from headgate.errors import ConfigurationError
from headgate.storage.seam import mapped
from headgate.storage.tables import VERSION_TABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from headgate.storage.database import Database

__all__ = ["HEAD", "MIGRATIONS", "prepare"]

HEAD: Final = "0001"
"""The newest revision in ``migrations/versions``; a test holds the two together."""
MIGRATIONS: Final = Path(__file__).parent / "migrations"
_ADVISORY_LOCK: Final = 0x6865_6164_6761_7465
"""'headgate' in ASCII: what processes lock in a PostgreSQL database while one of them migrates it."""


def prepare(database: Database) -> None:
    """Create or migrate the schema where it is not the newest.

    Raises:
        ConfigurationError: a newer Headgate wrote it.
        StoreUnavailable: the database cannot be used.
    """
    if database.path is None:
        _prepare_postgresql(database)
    else:
        with mapped(database.where), _file_lock(database.path):
            _prepare_sqlite(database, database.path)


def _prepare_postgresql(database: Database) -> None:
    with database.reading() as connection:
        if _revision(connection) == HEAD:
            return
    with database.writing() as connection:
        connection.execute(text("SET LOCAL lock_timeout = 0"))
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        _upgrade(connection)


def _prepare_sqlite(database: Database, path: Path) -> None:
    # For the owner only: it holds policies and the hashes of tokens. SQLite gives its -wal and -shm files
    # the same permissions.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    with database.bare() as connection:
        if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            connection.execute("PRAGMA journal_mode = WAL")
    with database.reading() as reader:
        if _revision(reader) == HEAD:
            return
    with database.writing() as writer:
        _upgrade(writer)


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    """One process at a time, for a database file that may not exist yet.

    SQLite's own locks are not enough: while another connection writes, the change to WAL fails at once,
    whatever the busy timeout. Every wait inside is bounded, and the lock goes with its process.
    """
    handle = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if sys.platform == "win32":
            import msvcrt  # noqa: PLC0415 - there is no fcntl on Windows

            msvcrt.locking(handle, msvcrt.LK_LOCK, 1)
        else:
            import fcntl  # noqa: PLC0415 - there is no msvcrt elsewhere

            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _revision(connection: Connection) -> str | None:
    """The revision that the schema is at; None when there is no schema."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    wanted: Any = select(column("version_num")).select_from(table(VERSION_TABLE))
    row = connection.execute(wanted).first()
    return None if row is None else str(row[0])


def _upgrade(connection: Connection) -> None:
    """Run the missing migrations in this transaction: all of them, or none."""
    from alembic import command  # noqa: PLC0415 - 0.2 s that a start at the newest schema saves
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        message = (
            f"the store's schema is at revision {_revision(connection)!r}, which this Headgate does not "
            f"know (its own is {HEAD!r}); run the newer Headgate that wrote it, or restore a backup"
        )
        raise ConfigurationError(message) from error
