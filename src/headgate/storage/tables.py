"""The tables, as the newest migration leaves them (a test holds the two together).

Their names begin with ``headgate_``, because a PostgreSQL database is often shared with other programs.
Documents are JSON in a text column: they are read and written whole, and JSONB would reorder them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import (
    Column,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)

if TYPE_CHECKING:
    from sqlalchemy import Dialect

__all__ = [
    "POLICIES",
    "POLICY_HISTORY",
    "SETTINGS",
    "TOKENS",
    "VERSION_TABLE",
    "UtcDateTime",
    "metadata",
]

VERSION_TABLE = "headgate_schema_version"
"""Where Alembic keeps the revision."""


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC, aware in Python whatever the database makes of it (SQLite drops the zone)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


metadata = MetaData()

POLICIES = Table(
    "headgate_policies",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("document", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)

# Its key is what makes two writers of one version a conflict, whatever the isolation level.
POLICY_HISTORY = Table(
    "headgate_policy_history",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("change", String(16), nullable=False),
    Column("document", Text),
    Column("actor", String(128), nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
)

TOKENS = Table(
    "headgate_tokens",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("scopes", String(64), nullable=False),
    Column("prefix", String(48), nullable=False),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
    Column("last_used_at", UtcDateTime),
)

SETTINGS = Table(
    "headgate_settings",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("document", Text, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)
