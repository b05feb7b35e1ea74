"""Whether the store is asked at all: deadlines, probes, and who is told what."""

from __future__ import annotations

import logging

import pytest

from headgate.engine.counters import CHECK, PEEK
from tests.support.shared_limits import MS, Bench

STRICT = {"name": "api", "limit": 100, "consistency": "strict", "failure_mode": "closed"}


def down() -> Bench:
    bench = Bench(STRICT)
    bench.begin()
    bench.post.lose()
    assert not bench.sharing.health.is_up
    return bench


def probes(bench: Bench) -> int:
    return sum(question.kind == PEEK for question in bench.post.sent)


def test_it_is_up_until_it_shows_otherwise():
    bench = Bench(STRICT)
    for _ in range(3):
        bench.check()
        bench.post.advance(100 * MS)
    assert bench.sharing.health.is_up
    assert bench.sharing.health.late == 0


def test_probes_come_less_and_less_often():
    bench = down()
    moments = []
    for _ in range(2000):
        before = probes(bench)
        bench.post.advance(MS)
        bench.post.lose()
        if probes(bench) > before:
            moments.append(bench.clock.now_ns() // MS - 1000)
    assert moments == [50, 150, 350, 750, 1250, 1750]


@pytest.mark.parametrize("early_ns", [MS // 2, MS + MS // 2, 5 * MS])
def test_timers_that_ring_early_are_not_taken_for_old_ones(early_ns):
    bench = Bench(STRICT)
    bench.post.early_ns = early_ns
    for _ in range(3):
        bench.begin()
        bench.post.lose()
        assert not bench.sharing.health.is_up
        for _ in range(3):  # unanswered
            bench.post.advance(500 * MS)
            assert bench.post.lose() > 0
        bench.post.is_instant = True
        bench.post.advance(1000 * MS)
        bench.post.is_instant = False
        assert bench.sharing.health.is_up


def test_an_outage_has_one_line_of_probes_even_after_a_short_one_before():
    bench = down()
    bench.post.advance(50 * MS)
    bench.post.deliver()
    assert bench.sharing.health.is_up
    bench.begin()
    bench.post.lose()
    before = probes(bench)
    for _ in range(800):
        bench.post.advance(MS)
        bench.post.lose()
    assert probes(bench) - before == 4  # after 50, 150, 350 and 750 ms


def test_a_probe_asks_for_the_key_that_failed():
    bench = Bench(STRICT)
    bench.begin(key="odd")
    bench.post.lose()
    bench.post.advance(50 * MS)
    ((counter, key),) = bench.post.sent[-1].levels
    assert (bench.post.sent[-1].kind, counter.name, key) == (PEEK, "api", "odd")
    assert bench.post.sent[-1].cost == 0


def test_a_probe_that_is_answered_too_late_does_not_count():
    bench = down()
    bench.post.advance(50 * MS)
    answers = bench.post.arrive()
    bench.post.advance(20 * MS)
    answers[0]()
    assert not bench.sharing.health.is_up


def test_only_probes_are_sent_meanwhile():
    bench = down()
    for _ in range(10):
        bench.begin()
        bench.post.advance(10 * MS)
    assert [question.kind for question in bench.post.sent].count(CHECK) == 1


def test_going_down_and_up_is_logged_once_each(caplog):
    caplog.set_level(logging.INFO, "headgate.engine")
    bench = down()
    for _ in range(3):
        bench.begin()
    bench.post.advance(50 * MS)
    bench.post.deliver()
    assert bench.sharing.health.is_up
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO"]
    assert "again, after 50 ms" in caplog.text


def test_it_may_go_down_again_at_once():
    bench = down()
    bench.post.advance(50 * MS)
    bench.post.deliver()
    bench.begin()
    bench.post.lose()
    health = bench.sharing.health
    assert (health.is_up, health.downs) == (False, 2)
    bench.post.advance(50 * MS)
    bench.post.deliver()
    assert health.is_up


def test_local_shares_hold_until_other_nodes_have_charged_theirs():
    bench = Bench({**STRICT, "failure_mode": "local"}, place=(0, 2))
    bench.begin()
    bench.post.lose()
    bench.post.is_instant = True
    bench.post.advance(50 * MS)
    assert bench.sharing.health.is_up
    assert bench.begin().degraded
    bench.post.advance(50 * MS)  # as long as it was away
    assert not bench.check().degraded
    assert bench.sharing.status().owed == 0
    assert bench.sharing.status().paid == 2


def test_who_is_shut_need_not_wait_for_that():
    bench = down()
    bench.post.is_instant = True
    bench.post.advance(50 * MS)
    pending = bench.begin()
    bench.post.advance(0)
    assert pending.value.allowed
