"""A key that the store cannot read is a matter of that key alone."""

from __future__ import annotations

import pytest

from headgate.engine.counters import UNREADABLE, Answer
from tests.support.shared_limits import MS, SECOND, Bench


class Damaged:
    """Counters that cannot read one of the keys."""

    def __init__(self, counting):
        self._counting = counting

    def __getattr__(self, name):
        return getattr(self._counting, name)

    def ask(self, question, at_us):
        if any(key == "bad" for _, key in question.levels):
            return Answer(at_us, [], failed=UNREADABLE)
        return self._counting.ask(question, at_us)


@pytest.mark.parametrize("consistency", ["strict", "leased"])
def test_the_failure_mode_answers_for_it_at_once(consistency):
    bench = Bench({"name": "api", "limit": 100, "consistency": consistency, "failure_mode": "open"})
    bench.post.counting = Damaged(bench.post.counting)
    for _ in range(3):
        assert bench.check(key="bad").degraded
        assert not bench.check(key="good").degraded
    assert bench.sharing.health.is_up


@pytest.mark.parametrize("consistency", ["strict", "leased"])
def test_neither_a_peek_nor_a_refund_nor_a_hold_stumbles_over_it(consistency):
    bench = Bench({"name": "api", "limit": 100, "consistency": consistency})
    bench.post.counting = Damaged(bench.post.counting)
    bad = {"key": "bad"}
    assert bench.settle(bench.engine.begin_peek(bad)).degraded
    assert bench.settle(bench.engine.begin_refund(bad, 1)).degraded
    reservation = bench.settle(bench.engine.begin_reserve(bad, 5, SECOND))
    assert reservation.decision.degraded
    assert bench.settle(bench.engine.begin_commit(reservation.id, 2)).degraded
    bench.post.is_instant = True
    bench.post.advance(100 * MS)
    assert bench.sharing.status().owed == 0
    assert bench.sharing.health.is_up


def test_its_record_is_forgotten_when_nobody_asks_any_more():
    bench = Bench({"name": "api", "limit": 100, "consistency": "leased"})
    bench.post.counting = Damaged(bench.post.counting)
    bench.post.is_instant = True
    for _ in range(300):
        bench.check(key="bad")
        bench.post.advance(10 * MS)
    bench.post.advance(20 * SECOND)
    assert bench.sharing.status().keys == 0
