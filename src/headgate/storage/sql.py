"""The stores on SQLite and PostgreSQL: SQLAlchemy Core, a statement or two for each call.

Core and not the ORM: four flat tables need no identity map, and the ORM costs 60 ms more to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from sqlalchemy import select

from headgate.storage.database import connect
from headgate.storage.schema import prepare
from headgate.storage.sql_policies import SqlPolicies
from headgate.storage.sql_settings import SqlSettings
from headgate.storage.sql_tokens import SqlTokens

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from headgate.clock import Clock
    from headgate.storage.database import Database

__all__ = ["SqlStore", "open_sql_store"]


def open_sql_store(url: str, clock: Clock, busy_timeout: float) -> SqlStore:
    """See `headgate.storage.open_store`."""
    database = connect(url, busy_timeout)
    try:
        prepare(database)
    except BaseException:
        database.close()
        raise
    return SqlStore(database, clock)


@final
class SqlStore:
    """A `Store` in a database; safe to use from several threads, and from several processes."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self.policies = SqlPolicies(database, clock)
        self.tokens = SqlTokens(database, clock)
        self.settings = SqlSettings(database, clock)

    def ping(self) -> None:
        with self._database.reading() as connection:
            connection.execute(select(1))

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
