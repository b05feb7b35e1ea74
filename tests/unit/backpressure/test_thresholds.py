"""Two thresholds for a resource."""

from __future__ import annotations

from math import inf, nan

import pytest

from headgate.backpressure.thresholds import Status, Threshold


@pytest.mark.parametrize(
    ("value", "status"),
    [(79.9, Status.OK), (80.0, Status.WARN), (99.9, Status.WARN), (100.0, Status.VIOLATE)],
)
def test_it_warns_at_80_and_is_violated_at_100_percent(value, status):
    threshold = Threshold()
    assert threshold.update(value, 100.0) is status
    assert threshold.ratio == pytest.approx(value / 100)


def test_crossings_are_counted_and_not_samples():
    threshold = Threshold()
    for value in (50, 85, 90, 85, 120, 130, 90, 110, 10, 85):
        threshold.update(value, 100.0)
    assert (threshold.warnings, threshold.violations, threshold.peak) == (2, 2, 130)


def test_a_leap_over_both_counts_for_both():
    threshold = Threshold()
    threshold.update(150.0, 100.0)
    assert (threshold.warnings, threshold.violations) == (1, 1)


@pytest.mark.parametrize("value", [None, nan, inf, -inf])
def test_no_reading_holds_nothing_against_it(value):
    threshold = Threshold()
    threshold.update(150.0, 100.0)
    assert threshold.update(value, 100.0) is Status.OK
    assert threshold.value is None
    assert threshold.ratio is None
    assert threshold.peak == 150.0


@pytest.mark.parametrize("limit", [None, 0.0, -1.0, nan])
def test_without_a_limit_only_the_peak_is_kept(limit):
    threshold = Threshold()
    assert threshold.update(150.0, limit) is Status.OK
    assert threshold.ratio is None
    assert threshold.peak == 150.0


def test_statuses_have_an_order():
    assert [status.severity for status in (Status.OK, Status.WARN, Status.VIOLATE)] == [0, 1, 2]
