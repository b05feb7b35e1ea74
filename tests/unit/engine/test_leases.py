"""The calculator of leases: plain numbers."""

from __future__ import annotations

import pytest

from headgate.decision import NEVER
from headgate.engine.counters import Standing
from headgate.engine.fallback import share_of
from headgate.engine.leases import Lease, margin_of, most_leased

MS = 1_000_000
SECOND = 1_000_000_000
TTL = 2 * SECOND


def leased(left: int, now: int = SECOND) -> Lease:
    lease = Lease("k", now)
    lease.renewed(left, 5_000_000, 5_000_000, now, TTL)
    return lease


@pytest.mark.parametrize(
    ("capacity", "share", "bound"), [(1000, 0.05, 50), (10, 0.05, 1), (1, 1.0, 1), (7, 0.5, 3)]
)
def test_the_bound_is_a_share_of_the_capacity_and_one_at_least(capacity, share, bound):
    assert most_leased(capacity, share) == bound


@pytest.mark.parametrize(("ttl", "margin"), [(TTL, 100 * MS), (10 * MS, MS)])
def test_the_margin(ttl, margin):
    assert margin_of(ttl) == margin


class TestDemand:
    def test_it_is_what_was_asked_for_in_the_time(self):
        lease = Lease("k", 0)
        lease.asked = 50
        lease.measure(SECOND // 2)
        assert lease.demand == pytest.approx(100)

    def test_what_is_long_ago_counts_less_and_less(self):
        lease = Lease("k", 0)
        lease.asked = 100
        lease.measure(SECOND)
        lease.measure(SECOND + 200 * MS)
        assert lease.demand == pytest.approx(50)

    def test_too_short_a_time_tells_nothing(self):
        lease = Lease("k", 0)
        lease.asked = 100
        lease.measure(MS - 1)
        assert lease.demand == 0.0
        assert lease.asked == 100

    def test_the_first_request_wants_nothing_ahead(self):
        assert Lease("k", 0).wanted(100 * MS, 50) == 0

    @pytest.mark.parametrize(("demand", "wanted"), [(5.0, 1), (100.0, 11), (1e9, 50)])
    def test_what_is_wanted_ahead(self, demand, wanted):
        lease = Lease("k", 0)
        lease.demand = demand
        assert lease.wanted(100 * MS, 50) == wanted


class TestLife:
    def test_it_is_spent_until_a_margin_before_its_end(self):
        lease = leased(10)
        end = SECOND + TTL - margin_of(TTL)
        assert lease.has(10, end - 1)
        assert not lease.has(11, end - 1)
        assert not lease.has(1, end)

    def test_more_is_asked_for_when_half_is_spent(self):
        assert [leased(left).low for left in (1, 2, 10)] == [0, 1, 5]

    def test_an_answer_in_time_revives_what_was_too_old(self):
        lease = leased(10)
        lease.renewed(5, 6_999_999, 6_999_999, SECOND + TTL, TTL)
        assert lease.has(15, SECOND + TTL)

    def test_an_answer_after_its_end_voids_what_was_left(self):
        lease = leased(10)
        lease.renewed(5, 7_000_000, 7_000_000, SECOND + TTL, TTL)
        assert lease.has(5, SECOND + TTL)
        assert not lease.has(6, SECOND + TTL)


class TestDrought:
    def test_a_cost_is_denied_and_a_smaller_one_is_not(self):
        lease = Lease("k", 0)
        lease.dry_up(5, 10 * MS, 30 * MS, SECOND)
        assert lease.is_dry(5)
        assert not lease.is_dry(4)
        assert lease.retry_after(SECOND) == 30 * MS
        lease.end_drought()
        assert not lease.is_dry(5)

    def test_never_is_told_as_the_pause(self):
        lease = Lease("k", 0)
        lease.dry_up(1, 10 * MS, NEVER, SECOND)
        assert lease.retry_after(SECOND) == 10 * MS

    def test_there_is_always_something_to_wait(self):
        lease = Lease("k", 0)
        lease.dry_up(1, 10 * MS, 10 * MS, SECOND)
        assert 1 <= lease.retry_after(2 * SECOND) <= MS


class TestForgetting:
    def test_a_new_one_says_nothing(self):
        assert Lease("k", 0).may_be_forgotten(SECOND)

    def test_tokens_are_not_forgotten(self):
        assert not leased(1).may_be_forgotten(10 * SECOND)

    def test_nor_tokens_that_a_request_holds(self):
        lease = Lease("k", 0)
        lease.pinned = 1
        assert not lease.may_be_forgotten(SECOND)

    def test_nor_that_it_is_limited(self):
        lease = Lease("k", 0)
        lease.dry_up(1, 10 * MS, 60 * SECOND, SECOND)
        assert not lease.may_be_forgotten(60 * SECOND)
        assert lease.may_be_forgotten(61 * SECOND)


def test_what_is_heard_is_remembered():
    lease = Lease("k", 0)
    lease.hear(Standing(0, 0, 7, 3 * SECOND, 10, SECOND), SECOND)
    assert (lease.spare, lease.reset_at, lease.limit, lease.window_ns) == (
        7,
        4 * SECOND,
        10,
        SECOND,
    )


@pytest.mark.parametrize("whole", [0, 1, 2, 10, 99, 10**12])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shares_add_up(whole, count):
    shares = [share_of(whole, rank, count) for rank in range(count)]
    assert sum(shares) == whole
    assert max(shares) - min(shares) <= 1
