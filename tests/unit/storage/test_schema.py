from __future__ import annotations

import sqlite3
import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from headgate.errors import ConfigurationError
from headgate.storage import open_store, schema, tables


@pytest.fixture
def script():
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    return ScriptDirectory.from_config(config)


def test_the_known_head_is_the_newest_migration(script):
    assert script.get_heads() == [schema.HEAD]


def test_the_migrations_make_the_tables_that_we_use(url):
    open_store(url).close()
    engine = create_engine(url)
    with engine.connect() as connection:
        options = {"version_table": tables.VERSION_TABLE, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, tables.metadata) == []
    engine.dispose()


def test_an_open_at_the_newest_schema_runs_no_migration(url, monkeypatch):
    open_store(url).close()
    monkeypatch.setattr(schema, "_upgrade", lambda connection: pytest.fail("migrated"))
    open_store(url).close()


def test_who_opens_waits_for_who_prepares(url, path):
    opener = threading.Thread(target=lambda: open_store(url).close())
    with schema._file_lock(path):
        opener.start()
        opener.join(0.05)
        assert opener.is_alive()
        assert not path.exists()
    opener.join(10)
    assert path.exists()


def test_a_store_of_a_newer_version_is_refused(url, path):
    open_store(url).close()
    set_revision(path, "9999")
    with pytest.raises(ConfigurationError, match="revision '9999', which this Headgate does not"):
        open_store(url)


def test_a_migration_that_fails_leaves_nothing_behind(url, path):
    with sqlite3.connect(path) as connection:
        # In the way of the last of the migration's tables.
        connection.execute("CREATE TABLE headgate_settings (x)")
    connection.close()
    with pytest.raises(Exception, match="headgate_settings already exists"):
        open_store(url)
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE headgate_settings")
        left = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    connection.close()
    assert left == []
    open_store(url).close()


def set_revision(path, revision):
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE {tables.VERSION_TABLE} SET version_num = '{revision}'")
    connection.close()
