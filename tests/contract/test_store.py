from __future__ import annotations

import pytest

from headgate.errors import StoreUnavailable


def test_an_open_store_answers(store):
    store.ping()


def test_a_closed_store_says_so_whatever_it_is_asked(store, policy):
    store.close()
    store.close()
    for ask in (
        store.ping,
        store.policies.list,
        lambda: store.policies.create(policy("api")),
        lambda: store.policies.apply([policy("api")]),
        lambda: store.policies.delete("api"),
        store.tokens.list,
        lambda: store.tokens.create("ci", ["check"]),
        lambda: store.settings.get("backpressure"),
        lambda: store.settings.put("backpressure", {}),
    ):
        with pytest.raises(StoreUnavailable, match="is closed; open"):
            ask()


def test_what_was_kept_is_there_after_a_restart(reopen, policy):
    with reopen() as store:
        store.policies.create(policy("api"), actor="ann")
        issued = store.tokens.create("ci", ["check"])
        store.settings.put("backpressure", {"load_threshold": 0.8})
    with reopen() as store:
        assert store.policies.get("api").version == 1
        assert store.policies.history("api")[0].actor == "ann"
        assert list(store.tokens.list()) == [issued.token]
        assert store.settings.get("backpressure").document == {"load_threshold": 0.8}


def test_two_processes_see_each_others_changes(reopen, policy):
    with reopen() as one, reopen() as other:
        one.policies.create(policy("api"))
        assert other.policies.get("api").version == 1
        other.policies.replace("api", policy("api", limit=3))
        assert one.policies.get("api").version == 2
