"""What can go wrong with a file."""

from __future__ import annotations

import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from headgate.errors import HeadgateError, StoreUnavailable
from headgate.storage import open_store
from headgate.storage.database import connect


@pytest.fixture
def database(url):
    open_store(url).close()
    with closing(connect(url, 0)) as opened:
        yield opened


def pragma(database, name):
    with database.reading() as connection:
        return connection.execute(text(f"PRAGMA {name}")).scalar()


def test_the_settings_that_safety_rests_on(database):
    assert pragma(database, "journal_mode") == "wal"
    assert pragma(database, "foreign_keys") == 1
    assert pragma(database, "synchronous") == 2


def test_the_file_is_its_owners_alone(url, path, policy):
    with open_store(url) as store:
        store.policies.create(policy("api"))
        for each in path.parent.iterdir():
            assert stat.S_IMODE(each.stat().st_mode) == 0o600, each


def test_a_missing_directory(tmp_path):
    with pytest.raises(StoreUnavailable, match="No such file or directory"):
        open_store(f"sqlite:///{tmp_path}/none/store.db")


def test_a_directory_in_the_place_of_the_file(tmp_path):
    with pytest.raises(StoreUnavailable, match="Is a directory"):
        open_store(f"sqlite:///{tmp_path}")


@pytest.mark.parametrize(
    "content", [b"not a database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 4096]
)
def test_another_kind_of_file_is_refused_and_left_alone(url, path, content):
    path.write_bytes(content)
    with pytest.raises(StoreUnavailable, match="file is not a database"):
        open_store(url)
    assert path.read_bytes() == content


def test_a_damaged_file(url, path, policy):
    with open_store(url) as store:
        store.policies.apply([policy(f"p{number}") for number in range(200)])
    damaged = bytearray(path.read_bytes())
    damaged[4096:] = b"\xa5" * (len(damaged) - 4096)
    path.write_bytes(damaged)
    with pytest.raises(StoreUnavailable, match="restore a backup"), open_store(url) as store:
        store.policies.list()


def test_a_full_disk_refuses_the_change_and_keeps_the_rest(url, policy):
    with open_store(url) as store:
        store.policies.create(policy("api"))
        connection = store._database._engine.raw_connection()
        connection.execute("PRAGMA max_page_count = 1")
        connection.close()
        with pytest.raises(StoreUnavailable, match="full; there is no room left"):
            store.policies.apply([policy(f"p{n}", description="x" * 1000) for n in range(100)])
        assert [each.policy.name for each in store.policies.list()] == ["api"]
        store.ping()


def test_a_file_that_another_process_holds(url, path, policy):
    with open_store(url, busy_timeout=0) as store, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="database is locked; another process holds it"):
            store.policies.create(policy("api"))
        # Readers do not wait for a writer.
        assert list(store.policies.list()) == []
        other.execute("ROLLBACK")
        store.policies.create(policy("api"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="permissions are another matter on Windows")
def test_a_file_that_may_only_be_read():
    # Root may write everywhere, so another user tries, in a directory that pytest does not close to it.
    directory = Path(tempfile.mkdtemp())
    try:
        open_store(f"sqlite:///{directory / 'store.db'}").close()
        for each in directory.iterdir():
            each.chmod(0o444)
        directory.chmod(0o555)
        script = (
            "import os, sys\n"
            "from headgate.errors import StoreUnavailable\n"
            "from headgate.storage import open_store, sql\n"
            "if os.geteuid() == 0:\n"
            "    os.setuid(65534)\n"
            "try:\n"
            "    open_store(sys.argv[1])\n"
            "except StoreUnavailable as error:\n"
            "    print(error)\n"
        )
        url = f"sqlite:///{directory / 'store.db'}"
        command = [sys.executable, "-c", script, url]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=directory)
        assert "Permission denied" in done.stdout
    finally:
        directory.chmod(0o755)
        shutil.rmtree(directory)


def test_a_write_to_a_store_that_became_read_only(url, policy):
    with open_store(url) as store:
        connection = store._database._engine.raw_connection()
        connection.execute("PRAGMA query_only = ON")
        connection.close()
        with pytest.raises(StoreUnavailable, match="readonly database; it cannot be written"):
            store.policies.create(policy("api"))


def test_a_file_that_vanishes_is_no_crash(url, path, policy):
    with open_store(url) as store:
        for each in list(path.parent.iterdir()):
            each.unlink()
        try:
            store.policies.create(policy("api"))
        except HeadgateError as error:
            assert isinstance(error, StoreUnavailable)  # noqa: PT017 - either is right


def test_a_row_that_cannot_be_read_stops_the_list_and_can_be_deleted(url, path, policy):
    with open_store(url) as store:
        store.policies.create(policy("good"))
        store.policies.create(policy("bad"))
        for document in ("{", "[]", '{"name": "bad", "limit": 0, "window": 1}', "[" * 100_000):
            with closing(sqlite3.connect(path)) as other, other:
                other.execute(
                    "UPDATE headgate_policies SET document = ? WHERE name = 'bad'", (document,)
                )
            with pytest.raises(StoreUnavailable, match="the stored policy 'bad' cannot be read"):
                store.policies.list()
        store.policies.delete("bad")
        assert [each.policy.name for each in store.policies.list()] == ["good"]


def test_settings_that_cannot_be_read_can_be_put_anew(url, path):
    with open_store(url) as store:
        store.settings.put("backpressure", {})
        for document in ("{", "[]", "[" * 100_000):
            with closing(sqlite3.connect(path)) as other, other:
                other.execute("UPDATE headgate_settings SET document = ?", (document,))
            with pytest.raises(StoreUnavailable, match="put them anew"):
                store.settings.get("backpressure")
        store.settings.put("backpressure", {"a": 1})
        assert store.settings.get("backpressure").document == {"a": 1}
