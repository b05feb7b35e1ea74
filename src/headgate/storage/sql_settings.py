"""Documents of settings in a database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select, update

from headgate.engine.ports import StoredSetting
from headgate.storage.documents import encode, read_setting, utc_now
from headgate.storage.refusals import check_setting_version
from headgate.storage.tables import SETTINGS

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

    from headgate.clock import Clock
    from headgate.storage.database import Database

__all__ = ["SqlSettings"]


class SqlSettings:
    """A `SettingsStore` in a database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def get(self, name: str) -> StoredSetting | None:
        with self._database.reading() as connection:
            row = _look(connection, name)
        return None if row is None else _stored(row)

    def put(
        self, name: str, document: dict[str, Any], expected_version: int | None = None
    ) -> StoredSetting:
        text = encode(document)
        with self._database.writing() as connection:
            found = _look(connection, name)
            current = found.version if found is not None else 0
            check_setting_version(name, expected_version, current)
            now = utc_now(self._clock)
            values = {"version": current + 1, "document": text, "updated_at": now}
            if found is None:
                connection.execute(insert(SETTINGS), {"name": name, **values})
            else:
                connection.execute(update(SETTINGS).where(SETTINGS.c.name == name).values(values))
        return StoredSetting(name, read_setting(name, text), current + 1, now)


def _look(connection: Connection, name: str) -> Row[Any] | None:
    wanted = select(SETTINGS).where(SETTINGS.c.name == name)
    return connection.execute(wanted.with_for_update()).one_or_none()


def _stored(row: Row[Any]) -> StoredSetting:
    return StoredSetting(
        row.name, read_setting(row.name, row.document), row.version, row.updated_at
    )
