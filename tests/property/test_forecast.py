"""What a line is told about its future is what happens, for every algorithm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.decision import NEVER
from headgate.gates.forecast import Forecast
from headgate.gates.limiter import Limiter
from headgate.testing import ManualClock

ALGORITHMS = [
    "token_bucket",
    "leaky_bucket",
    "leaky_bucket_queue",
    "fixed_window",
    "sliding_window_log",
    "sliding_window_counter",
    "dual",
]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("rate", ["7/second", "5/second;11/minute"])
@given(
    before=st.lists(st.tuples(st.integers(0, 900_000_000), st.integers(1, 7)), max_size=6),
    costs=st.lists(st.integers(1, 8), min_size=1, max_size=8),
    gap=st.integers(0, 2_000_000_000),
)
def test_it_is_what_happens_if_nobody_else_spends(algorithm, rate, before, costs, gap):
    clock = ManualClock(10**15)
    limiter = Limiter(rate, algorithm=algorithm, clock=clock)
    for pause, cost in before:
        clock.advance_ns(pause)
        limiter.check("k", cost)
    clock.advance_ns(gap)
    forecast = Forecast(limiter.limits("k"), clock.now_ns())
    for cost in costs:
        passing, proceeding = forecast.passing(cost), forecast.proceeding(cost)
        forecast.add(cost)
        decision = limiter.check("k", cost)
        while not decision.allowed and not decision.never_fits:
            clock.advance_ns(decision.retry_after_ns)
            decision = limiter.check("k", cost)
        if decision.never_fits:
            assert passing == proceeding == NEVER
        else:
            assert passing == clock.now_ns()
            assert proceeding == clock.now_ns() + decision.delay_ns


def test_looking_ahead_changes_nothing():
    clock = ManualClock()
    limiter = Limiter("5/minute", algorithm="sliding_window_log", clock=clock)
    limiter.check("k", 3)
    before = limiter.peek("k")
    forecast = Forecast(limiter.limits("k"), clock.now_ns())
    for _ in range(10):
        forecast.add(2)
    assert limiter.peek("k") == before
