"""A flood at the cap hands nothing back to keys that were at their limit (A15)."""

from __future__ import annotations

import pytest

from headgate import Limiter
from headgate.testing import ManualClock

LIMITED = [f"limited:{number}" for number in range(40)]


def flooded(cost, *, seconds):
    """A full table whose limited keys stand side by side, so that the hand often sees nothing else."""
    clock = ManualClock()
    limiter = Limiter("10/minute", clock=clock, max_keys=100)
    for key in LIMITED:
        limiter.check(key, 10)
    clock.advance(seconds)
    for number in range(1_000):
        limiter.check(f"random:{number}", cost)
    return limiter


@pytest.mark.parametrize("cost", [1, 5, 10])
@pytest.mark.parametrize(("seconds", "refilled"), [(1, 0), (6, 1), (29, 4)])
def test_a_limited_key_gets_its_refill_and_no_more(cost, seconds, refilled):
    limiter = flooded(cost, seconds=seconds)
    assert [limiter.peek(key).remaining for key in LIMITED] == [refilled] * len(LIMITED)
    assert limiter.stats().keys <= 100


def test_newcomers_still_find_room_where_others_have_spent_little():
    limiter = flooded(1, seconds=1)
    assert limiter.stats().evicted > 0
