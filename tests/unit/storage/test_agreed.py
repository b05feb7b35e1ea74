"""The store in records, with records that are odd; the rest is in tests/contract."""

from __future__ import annotations

import pytest

from headgate.engine.records import Record
from headgate.errors import Conflict, HeadgateError, StoreUnavailable
from headgate.policy.model import Policy
from headgate.storage.agreed import AgreedStore
from headgate.testing import ManualClock


class MemoryRecords:
    """`Records` in a dictionary; ``before`` is called before each change."""

    def __init__(self):
        self.kept = {}
        self.revision = 0
        self.before = lambda: None

    def get(self, key):
        return self.kept.get(key)

    def list(self, folder):
        return [record for (place, _), record in self.kept.items() if place == folder]

    def change(self, expected, puts, deletes=()):
        self.before()
        for key, at in expected.items():
            if (self.kept[key].revision if key in self.kept else 0) != at:
                return False
        self.revision += 1
        for key, text in puts.items():
            self.kept[key] = Record(key[1], text, self.revision)
        for key in deletes:
            self.kept.pop(key, None)
        return True

    def ping(self):
        pass

    def close(self):
        pass


@pytest.fixture
def records():
    return MemoryRecords()


@pytest.fixture
def store(records):
    return AgreedStore(records, ManualClock())


def policy(name="api", limit=10):
    return Policy.from_dict({"name": name, "limit": limit, "window": "1m"})


@pytest.mark.parametrize(
    "text",
    ["", "rubbish", "[]", "{}", '{"version": 1}', "[" * 100_000, '{"version":1,"document":{}}'],
)
@pytest.mark.parametrize(
    ("folder", "ask"),
    [
        ("policies", lambda store: store.policies.list()),
        ("policies", lambda store: store.policies.get("odd")),
        ("policies", lambda store: store.policies.replace("odd", policy("odd"))),
        ("policies", lambda store: store.policies.apply([policy("odd")])),
        ("history:odd", lambda store: store.policies.history("odd")),
        ("tokens", lambda store: store.tokens.list()),
        ("tokens", lambda store: store.tokens.find("odd", b"")),
        ("tokens", lambda store: store.tokens.revoke("odd")),
        ("settings", lambda store: store.settings.get("odd")),
        ("settings", lambda store: store.settings.put("odd", {})),
    ],
)
def test_a_record_that_cannot_be_read_is_not_passed_over(records, store, folder, ask, text):
    records.kept[folder, "odd"] = Record("odd", text, 1)
    with pytest.raises(StoreUnavailable, match="odd"):
        ask(store)


def test_who_is_overtaken_every_time_gives_up(records, store):
    store.policies.create(policy())

    def overtake():
        guard = records.kept["meta", "policies"]
        records.kept["meta", "policies"] = Record("policies", "", guard.revision + 1)

    records.before = overtake
    with pytest.raises(Conflict, match="repeat the change"):
        store.policies.replace("api", policy(limit=20))


def test_who_is_overtaken_by_another_policy_is_made_all_the_same(records, store):
    other = AgreedStore(records, ManualClock())

    def overtake():
        records.before = lambda: None
        other.policies.create(policy("web"))

    records.before = overtake
    assert store.policies.create(policy()).version == 1
    assert [each.policy.name for each in store.policies.list()] == ["api", "web"]


def test_a_set_that_was_refused_leaves_nothing_behind(records, store):
    before = dict(records.kept)
    with pytest.raises(HeadgateError):
        store.policies.apply([policy(), policy()])
    assert records.kept == before


def test_applying_what_is_there_writes_nothing(records, store):
    store.policies.apply([policy()])
    revision = records.revision
    store.policies.apply([policy()])
    assert records.revision == revision


def test_a_year_of_changes_keeps_a_hundred_lines(records, store):
    store.policies.create(policy())
    for limit in range(11, 365):
        store.policies.replace("api", policy(limit=limit))
    lines = store.policies.history("api")
    assert [line.version for line in lines] == list(range(256, 356))
    assert len(records.kept) == 102
