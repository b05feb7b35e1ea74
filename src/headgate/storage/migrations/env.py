"""Run by Alembic for every command; `headgate.storage.schema` hands it the connection."""

from __future__ import annotations

from alembic import context

from headgate.storage.tables import VERSION_TABLE, metadata

# The caller's transaction holds all steps together; Alembic sees that it is open and begins none.
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
)
context.run_migrations()
