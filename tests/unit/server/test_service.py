"""One place for all doors: what is refused, what is remembered."""

from __future__ import annotations

import pytest

from headgate.engine.engine import Engine
from headgate.errors import InvalidCost, InvalidInput, InvalidKey
from headgate.policy.model import Policy
from headgate.server.service import CheckService, RecentRequests
from headgate.server.wire import CheckRequest
from headgate.testing import ManualClock


@pytest.fixture
def service() -> CheckService:
    engine = Engine(ManualClock())
    engine.set_policy(Policy.from_dict({"name": "by-key", "limit": 10, "window": "1m"}))
    engine.set_policy(
        Policy.from_dict({"name": "by-user", "limit": 5, "window": "1m", "dimensions": ["user"]})
    )
    return CheckService(engine, max_key_bytes=32)


def test_usage_knows_the_metadata_that_a_key_came_with(service: CheckService) -> None:
    service.check("k", 2, {"user": "ann"})
    used = {usage.policy: (usage.key, usage.used) for usage in service.usage("k")}
    assert used == {"by-key": ("k", 2), "by-user": ("ann", 2)}
    assert [usage.policy for usage in service.usage("never seen")] == ["by-key"]


@pytest.mark.parametrize("tokens", [-1, 10**12 + 1])
def test_a_cost_has_bounds(service: CheckService, tokens: int) -> None:
    with pytest.raises(InvalidCost):
        service.check("k", tokens, {})


@pytest.mark.parametrize(
    ("key", "metadata"),
    [
        ("", {}),
        ("k" * 33, {}),
        ("\u00e9" * 17, {}),
        ("\U0001f600" * 9, {}),
        ("k", {"u" * 33: "v"}),
        ("k", {"u": "v" * 33}),
        ("k", {"": "v"}),
        ("k", {"key": "v"}),
        (None, {"key": "v"}),
        ("k", {str(number): "v" for number in range(65)}),
    ],
)
def test_what_breaks_a_constraint_spends_nothing(
    service: CheckService, key: str | None, metadata: dict[str, str]
) -> None:
    with pytest.raises(InvalidInput):
        service.check(key, 1, metadata)
    assert service.peek("k", 1, {"user": "ann"}).remaining == 5


@pytest.mark.parametrize("key", ["k" * 32, "\u00e9" * 16, "\U0001f600" * 8])
def test_a_key_of_the_longest_length(service: CheckService, key: str) -> None:
    assert service.check(key, 1, {}).remaining == 9


def test_all_or_nothing_is_read_of_a_batch(service: CheckService) -> None:
    checks = [CheckRequest("k", 3, {}), CheckRequest("k" * 33, 1, {}), CheckRequest("k", 3, {})]
    with pytest.raises(InvalidKey) as caught:
        service.check_all(checks)
    assert caught.value.context["index"] == 1
    assert service.peek("k", 1, {}).remaining == 10
    decisions = service.check_all([checks[2], CheckRequest(None, 1, {"user": "bob"})])
    assert [decision.remaining for decision in decisions] == [7, 4]


def test_a_reservation_is_settled(service: CheckService) -> None:
    held = service.reserve("k", 6, {}, 10.0)
    assert service.commit(held.id, 2).remaining == 8
    assert service.release(service.reserve("k", 6, {}, 10.0).id).remaining == 8


def test_recent_keys_are_remembered_and_old_ones_forgotten() -> None:
    recent = RecentRequests(max_keys=3, max_bytes=10_000)
    for number in range(20):
        recent.put(f"k{number}", {"key": f"k{number}", "n": str(number)}, 10)
        assert recent.get(f"k{number}")["n"] == str(number)
    assert recent.get("k18")["n"] == "18"
    assert recent.get("k0") == {"key": "k0"}
    assert len(recent._young) + len(recent._old) <= 6


def test_the_latest_metadata_of_a_key_counts() -> None:
    recent = RecentRequests()
    recent.put("k", {"key": "k", "user": "ann"}, 10)
    recent.put("k", {"key": "k", "user": "bob"}, 10)
    assert recent.get("k")["user"] == "bob"


def test_large_requests_are_counted_every_time() -> None:
    recent = RecentRequests(max_keys=1_000, max_bytes=10_000)
    recent.put("other", {"key": "other", "seen": "yes"}, 10)
    for _ in range(5):
        recent.put("k", {"key": "k", "large": "x" * 5_000}, 5_000)
    assert recent.get("other") == {"key": "other"}
