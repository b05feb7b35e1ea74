"""A desk brings its engine to what the store has, whoever wrote it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from headgate.engine.engine import Engine
from headgate.errors import InvalidPolicy
from headgate.policy.model import Policy
from headgate.server.policies import PolicyDesk
from headgate.storage import open_store
from headgate.testing import ManualClock

if TYPE_CHECKING:
    from headgate.engine.ports import Store


def policy(name: str, limit: int = 1) -> Policy:
    return Policy.from_dict({"name": name, "limit": limit, "window": "1m"})


@pytest.fixture
def store() -> Store:
    return open_store("memory://", ManualClock())


async def test_what_others_wrote_is_put_in_force_and_the_rest_is_left_alone(store: Store) -> None:
    engine = Engine(ManualClock())
    desk = PolicyDesk(engine, store.policies)
    await desk.create({"name": "mine", "limit": 2, "window": "1m"}, "")
    assert engine.check({"key": "k"}).remaining == 1
    store.policies.create(policy("theirs", 9))
    assert await desk.reload() == ["theirs"]
    found = engine.policy("theirs")
    assert found is not None
    assert found.levels[0].spec.rate.limit == 9
    store.policies.replace("theirs", policy("theirs", 8))
    assert await desk.reload() == ["theirs"]
    store.policies.delete("theirs")
    assert await desk.reload() == ["theirs"]
    assert engine.policy("theirs") is None
    assert await desk.reload() == []
    assert engine.check({"key": "k"}).remaining == 0, "its counters went on"


async def test_what_cannot_be_put_in_force_is_skipped_and_said_once(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    class Fussy:
        """An engine that does not take one policy; the desk asks no more of it."""

        def __init__(self) -> None:
            self.taken: list[str] = []

        def set_policy(self, one: Policy, version: int) -> None:
            if one.name == "odd":
                raise InvalidPolicy("this node knows no such algorithm", "algorithm")
            self.taken.append(one.name)

    engine: Any = Fussy()
    desk = PolicyDesk(engine, store.policies)
    store.policies.apply([policy("even"), policy("odd"), policy("plain")])
    with caplog.at_level(logging.ERROR):
        await desk.reload()
        await desk.reload()
    assert engine.taken == ["even", "plain"]
    assert caplog.text.count("'odd' was left as it is") == 1


async def test_every_change_is_announced(store: Store) -> None:
    told = []

    async def announce() -> None:
        told.append(dict(desk.versions))

    desk = PolicyDesk(Engine(ManualClock()), store.policies)
    desk.announce = announce
    await desk.create({"name": "p", "limit": 1, "window": "1m"}, "")
    await desk.put("p", {"limit": 2, "window": "1m"}, "")
    await desk.apply([{"name": "p", "limit": 3, "window": "1m"}], "")
    await desk.delete("p", "")
    assert [one.get("p") for one in told] == [1, 2, 3, None]


async def test_what_cannot_be_read_stays_in_force_as_it_was(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(ManualClock())
    desk = PolicyDesk(engine, store.policies)
    store.policies.apply([policy("new"), policy("old")])
    await desk.reload()
    stored = store.policies.list()
    monkeypatch.setattr(
        type(store.policies), "readable", lambda self: (stored[:1], {"old": "of a newer version"})
    )
    with caplog.at_level(logging.ERROR):
        assert await desk.reload() == []
        assert await desk.reload() == []
    assert engine.policy("old") is not None
    assert caplog.text.count("of a newer version") == 1
