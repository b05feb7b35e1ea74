from __future__ import annotations

import subprocess
import sys

import pytest

from headgate.errors import ConfigurationError, StoreUnavailable
from headgate.storage import open_store
from headgate.storage.memory import MemoryStore
from headgate.storage.sql import SqlStore


def test_each_scheme_opens_its_store(url):
    with open_store("memory://") as memory:
        assert isinstance(memory, MemoryStore)
    with open_store(url) as sqlite:
        assert isinstance(sqlite, SqlStore)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "store.db",
        "mysql://u:hunter2@h/d",
        "sqlite+aiosqlite:///x.db",
        "postgresql+asyncpg://u:hunter2@h/d",
        "postgresql://u:hunter2@h:port/d",
    ],
)
def test_an_address_that_is_not_understood_is_refused_without_telling_its_password(address):
    with pytest.raises(ConfigurationError, match="the store's URL must") as caught:
        open_store(address)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite://host/x.db",
        "sqlite:///x.db?mode=ro",
    ],
)
def test_sqlite_takes_the_path_of_a_file_only(address):
    with pytest.raises(ConfigurationError, match="for one in memory use memory://"):
        open_store(address)


def test_a_missing_driver_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'headgate\[postgres\]'"):
        open_store("postgresql://u@127.0.0.1:1/d")


def test_a_server_that_is_not_there_is_unavailable_and_its_password_is_not_told():
    with pytest.raises(StoreUnavailable, match="does not answer") as caught:
        open_store("postgresql://u:hunter2@127.0.0.1:1/d")
    assert "hunter2" not in str(caught.value)


@pytest.mark.slow
def test_a_start_imports_only_what_it_needs(url):
    open_store(url).close()
    script = (
        "import sys, headgate.storage as storage\n"
        "heavy = {'sqlalchemy', 'alembic', 'msgspec', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "storage.open_store('memory://').close()\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "storage.open_store(sys.argv[1]).close()\n"
        "print(sorted(heavy & set(sys.modules)), 'sqlalchemy.orm' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, url], check=True, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == ["[]", "[]", "['sqlalchemy'] False"]
