from __future__ import annotations

import pytest

from headgate.backpressure.latency_window import LatencyWindow


def filled(latencies, *, in_flight=10, few=4):
    window = LatencyWindow(1_000, 1, few)
    for latency in latencies:
        window.add(0, latency, in_flight, False)
    return window


@pytest.mark.parametrize(
    ("latencies", "typical"),
    [
        ([5], 5),
        ([1, 3], 2),
        ([1, 2, 3], 2),
        ([10**18, *[5, 6, 7] * 3], 6.125),
        ([0, *[5] * 17, 10**18, 10**18], 5),
        ([1] * 10 + [99] * 10, 50),
    ],
)
def test_what_is_typical(latencies, typical):
    assert filled(latencies).typical_ns() == typical


def test_a_busy_window_keeps_few_and_means_the_same():
    window = filled(range(100_000))
    assert len(window._latencies) <= 256
    assert window.typical_ns() == pytest.approx(50_000, rel=0.01)
    assert window.calls == 100_000


def test_it_is_complete_after_its_time_and_its_calls():
    window = opened(1_000, 3)
    assert not window.add(0, 5, 1, False)
    assert not window.add(2_000, 5, 1, False)
    assert window.add(2_001, 5, 1, False)
    window.clear()
    assert not window.add(5_000, 5, 1, False)
    assert not window.add(5_001, 5, 1, False)
    assert not window.add(5_999, 5, 1, False)
    assert window.add(6_000, 5, 1, False)


def opened(period, calls):
    """A window after the first."""
    window = LatencyWindow(period, calls, 4)
    window.clear()
    return window


def test_the_first_one_is_four_times_as_long():
    window = LatencyWindow(1_000, 3, 4)
    for number in range(12):
        assert not window.add(number, 5, 1, False)
    assert not window.add(3_999, 5, 1, False)
    assert window.add(4_000, 5, 1, False)
    window = LatencyWindow(1_000, 3, 4)
    window.add(0, 5, 1, False)
    for _ in range(10):
        assert not window.add(9_000, 5, 1, False)
    assert window.add(9_000, 5, 1, False)


def test_a_clock_that_went_back_begins_the_time_anew():
    window = opened(1_000, 2)
    window.add(10**18, 5, 1, False)
    assert not window.add(0, 5, 1, False)
    assert window.add(1_000, 5, 1, False)


def test_dropped_calls_and_negative_latencies_have_none():
    window = LatencyWindow(1_000, 1, 4)
    window.add(0, 7, 3, True)
    window.add(0, -7, 5, False)
    assert not window.has_latency
    assert (window.calls, window.drops, window.peak) == (2, 1, 5)
    window.add(0, 9, 1, False)
    assert window.typical_ns() == 9


def test_calls_that_began_while_few_were_in_flight():
    window = filled([50] * 20)
    assert window.calm_ns() == 50
    for latency in (9, 10):
        window.add(0, latency, 4, False)
    assert window.calm_ns() == 50, "two are too few"
    window.add(0, 11, 1, False)
    assert window.calm_ns() == 10
    window.clear()
    for _ in range(3):
        window.add(0, 70, 1, False)
    window.add(0, 20, 9, False)
    window.add(0, 20, 9, False)
    window.add(0, 20, 9, False)
    assert window.calm_ns() < 70, "never more than what is typical"
