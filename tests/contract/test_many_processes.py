"""Several processes that start on one new store at the same moment."""

from __future__ import annotations

import subprocess
import sys

import pytest

from headgate.storage import open_store

PROCESSES = 3

# Each process says that it is ready, waits for the word, and opens the store.
SCRIPT = """
import sys
from headgate.policy.model import Policy
from headgate.storage import open_store, sql
print("ready", flush=True)
sys.stdin.readline()
with open_store(sys.argv[1]) as store:
    name = "policy-" + sys.argv[2]
    store.policies.create(Policy.from_dict({"name": name, "limit": 1, "window": 1}))
    store.policies.apply([Policy.from_dict({"name": "shared", "limit": 1, "window": 1})])
"""


@pytest.fixture
def race():
    """Open a store from several processes at once; returns what each wrote to its standard error."""

    def run(url):
        runners = [
            subprocess.Popen(
                [sys.executable, "-c", SCRIPT, url, str(number)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for number in range(PROCESSES)
        ]
        for runner in runners:
            assert runner.stdout.readline() == "ready\n"
        for runner in runners:
            runner.stdin.write("go\n")
            runner.stdin.flush()
        outputs = [runner.communicate(timeout=60) for runner in runners]
        assert [runner.returncode for runner in runners] == [0] * PROCESSES, outputs

    return run


def stored(url):
    with open_store(url) as store:
        return [each.policy.name for each in store.policies.list()]


EXPECTED = [f"policy-{number}" for number in range(PROCESSES)] + ["shared"]


@pytest.mark.slow
def test_all_of_them_open_a_new_sqlite_file(race, tmp_path):
    url = f"sqlite:///{tmp_path}/store.db"
    race(url)
    assert stored(url) == EXPECTED


@pytest.mark.slow
def test_all_of_them_open_an_empty_postgresql_database(race, empty_postgres):
    race(empty_postgres)
    assert stored(empty_postgres) == EXPECTED
