"""The script of shared circuits against the calculator in Python, over random histories on a real server."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headgate.backpressure.breaker import ANY_CALL, Breaker
from headgate.backpressure.breaker_rule import BreakerRule
from headgate.coordination.redis_circuits import RedisCircuits, _read
from headgate.engine.circuits import CircuitQuestion, answer, first_epoch

pytestmark = pytest.mark.needs_redis

US = 1_000
SECOND = 10**9
YEARS = 3 * 365 * 86_400 * SECOND
START = 1_750_000_000 * SECOND

RULES = [
    BreakerRule(least_calls=4, successes=2, step_calls=3),
    BreakerRule(in_row=3, failure_rate=0.0, successes=2, probes=1, step_calls=2),
    BreakerRule(slow_rate=0.8, window_calls=6, least_calls=5, successes=1, step_calls=2),
    BreakerRule(in_row=2, slow_rate=0.3, failure_rate=1 / 3, least_calls=3, steps=(), successes=2),
    BreakerRule(in_row=1, slots=1, slot_ns=3 * SECOND, lease_ns=SECOND, forgive_ns=10 * SECOND),
]
QUESTIONS = st.builds(
    CircuitQuestion,
    epoch=st.sampled_from(
        [0, 0, 0, -1, ANY_CALL - 10]
    ),  # in steps from the present one; see asked()
    outcomes=st.text("00011123", max_size=5),
    lease=st.integers(0, 4),  # 0, or which of those granted
    ended=st.sampled_from([0, 0, 0, 1, 2, 4]),
    told_ns=st.sampled_from([0, 0, 0, 7 * SECOND, YEARS]),
    force=st.sampled_from([-1] * 20 + [0, 1, 4, 5, 6]),
    probes=st.booleans(),
)
FORWARD = [0, US, SECOND // 2, SECOND, 3 * SECOND, 5 * SECOND - US, 5 * SECOND, 61 * SECOND]
PAUSES = st.sampled_from([*FORWARD, *FORWARD, 31 * SECOND, -SECOND, -40 * SECOND, YEARS, -YEARS])
NAMES = count()


@pytest.fixture(scope="module")
def client(redis_server):
    with redis.Redis(port=redis_server.port) as client:
        yield client


def asked(question: CircuitQuestion, epoch: int, leases: list[int]) -> CircuitQuestion:
    """The question about this circuit: its epochs and leases are not known before it has run."""
    told_of = ANY_CALL if question.epoch == ANY_CALL - 10 else epoch + question.epoch
    lease = leases[-question.lease] if 0 < question.lease <= len(leases) else 0
    return replace(question, epoch=told_of, lease=lease)


@given(
    rule=st.sampled_from(RULES),
    history=st.lists(st.tuples(PAUSES, QUESTIONS), min_size=1, max_size=60),
)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_script_is_the_calculator(client, rule, history):
    store = RedisCircuits(client, SECOND)
    name = f"same-{next(NAMES)}"
    now = START
    breaker = Breaker(rule)
    breaker.epoch = first_epoch(now)
    leases: list[int] = []
    for number, (pause, question) in enumerate(history):
        now += pause if number else 0
        sent = asked(question, breaker.epoch, leases)
        arguments = store._arguments(name, rule, sent)[:-1]
        theirs = _read(client.eval(store._script.text, 1, *arguments, now // US))
        ours = answer(breaker, sent, now)
        assert theirs == ours
        if ours.lease > 0:
            leases.append(ours.lease)
    client.delete(f"headgate:circuit:{name}")


@given(uniform=st.floats(0, 1, exclude_max=True), openings=st.integers(1, 8))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_jitter_is_the_same_to_the_microsecond(client, uniform, openings):
    rule = BreakerRule(in_row=1)
    store = RedisCircuits(client, SECOND)
    name = f"jitter-{next(NAMES)}"
    breaker = Breaker(rule)
    breaker.epoch = first_epoch(START)
    now = START
    for _ in range(openings):
        sent = CircuitQuestion(breaker.epoch, "1", uniform=uniform)
        arguments = store._arguments(name, rule, sent)[:-1]
        theirs = _read(client.eval(store._script.text, 1, *arguments, now // US))
        ours = answer(breaker, sent, now)
        assert abs(theirs.wait_ns - ours.wait_ns) <= US
        now += 100 * SECOND  # half-open by then; the next failure is a probe's
        sent = CircuitQuestion(breaker.epoch, probes=True)
        client.eval(store._script.text, 1, *store._arguments(name, rule, sent)[:-1], now // US)
        answer(breaker, sent, now)
    client.delete(f"headgate:circuit:{name}")
