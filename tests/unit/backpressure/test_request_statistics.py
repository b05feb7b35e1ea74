"""Counts, latency and pace of requests."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.backpressure.request_statistics import Outcome, RequestStatistics

SECOND = 10**9
YEAR = 366 * 86_400 * SECOND


def test_before_the_first_request():
    figures = RequestStatistics(5).read(5)
    assert (figures.total, figures.mean_ns, figures.p95_ns, figures.p99_ns) == (0, 0, 0, 0)
    assert (figures.per_second, figures.error_rate) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("durations", "mean", "p95", "p99"),
    [
        ([7], 7, 7, 7),
        (list(range(1, 101)), 50, 95, 99),
        (list(range(1, 21)), 10, 19, 20),
        ([5, 1], 3, 5, 5),
        ([-5, 5], 2, 5, 5),
    ],
)
def test_latency(durations, mean, p95, p99):
    statistics = RequestStatistics(0)
    for duration in durations:
        statistics.ended(Outcome.OK, duration, 0)
    figures = statistics.read(0)
    assert (figures.mean_ns, figures.p95_ns, figures.p99_ns) == (mean, p95, p99)


def test_failures_do_not_look_like_good_latency():
    statistics = RequestStatistics(0)
    statistics.ended(Outcome.OK, 100, 0)
    for outcome in (Outcome.FAILED, Outcome.FAILED, Outcome.FAILED, Outcome.ABANDONED):
        statistics.ended(outcome, 1, 0)
    figures = statistics.read(0)
    assert (figures.mean_ns, figures.p99_ns) == (100, 100)
    assert (figures.total, figures.ok, figures.failed, figures.abandoned) == (5, 1, 3, 1)
    assert figures.error_rate == 0.75


@given(
    st.lists(st.integers(0, 10**6), min_size=1, max_size=60), st.sampled_from([0, 1000, 1024, 5000])
)
def test_percentiles_of_the_latest_1024(durations, before):
    statistics = RequestStatistics(0)
    for _ in range(before):
        statistics.ended(Outcome.OK, 3, 0)
    for duration in durations:
        statistics.ended(Outcome.OK, duration, 0)
    latest = sorted(([3] * before + durations)[-1024:])
    figures = statistics.read(0)
    assert figures.mean_ns == sum(latest) // len(latest)
    for percent, found in ((95, figures.p95_ns), (99, figures.p99_ns)):
        assert found == latest[ceil(percent * len(latest) / 100) - 1]


@given(st.lists(st.integers(0, 200), min_size=1, max_size=100), st.integers(0, 300))
def test_the_pace_of_the_last_minute(seconds, later):
    statistics = RequestStatistics(0)
    for second in sorted(seconds):
        statistics.ended(Outcome.OK, 1, second * SECOND)
    now = max(seconds) + later
    recent = sum(now - 60 < second <= now for second in seconds)
    assert statistics.read(now * SECOND).per_second == recent / min(60, now + 1)


def test_a_clock_that_jumps():
    statistics = RequestStatistics(YEAR)
    statistics.ended(Outcome.OK, -YEAR, 0)
    assert statistics.read(0).per_second == 1.0
    statistics.ended(Outcome.OK, 2 * YEAR, 3 * YEAR)
    assert statistics.read(3 * YEAR).per_second == 1 / 60
    assert statistics.read(YEAR).per_second == 0.0
    assert statistics.read(0).total == 2
