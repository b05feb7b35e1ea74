"""What the settings of backpressure mean."""

from __future__ import annotations

import pytest

from headgate.errors import InvalidInput
from headgate.server.backpressure import BackpressureRules


def test_what_is_left_out_takes_its_default():
    assert BackpressureRules.of({}) == BackpressureRules()
    assert BackpressureRules.of({"load_shedding": {"priority_levels": []}}) == BackpressureRules()
    rules = BackpressureRules.of({"circuit_breaker": {"recovery_threshold": 3}})
    assert (rules.failure_threshold, rules.recovery_threshold, rules.timeout) == (5, 3, 5.0)


@pytest.mark.parametrize(
    ("levels", "multipliers"),
    [
        ({1: 0.1, 2: 0.5, 3: 1.0}, (0.1, 0.5, 1.0, 1.0)),
        ({1: 0.0, 2: 0.1, 3: 0.2, 4: 0.3, 5: 0.9}, (0.0, 0.1, 0.2, 0.3)),
        ({3: 1.0, 1: 0.1}, (0.1, 0.1, 1.0, 1.0)),
        ({2: 0.5}, (0.5, 0.5, 0.5, 0.5)),
        ({3: 0.2, 4: 0.8}, (0.2, 0.2, 0.2, 0.8)),
        ({7: 0.7}, (0.7, 0.7, 0.7, 0.7)),
    ],
)
def test_level_1_is_critical_and_a_missing_one_takes_the_one_before_it(levels, multipliers):
    document = [{"level": level, "multiplier": multiplier} for level, multiplier in levels.items()]
    rules = BackpressureRules.of({"load_shedding": {"priority_levels": document}})
    assert rules.multipliers == multipliers


@pytest.mark.parametrize(
    ("timeout", "seconds"), [("100ms", 0.1), ("30s", 30.0), ("5m", 300.0), ("1h", 3600.0)]
)
def test_a_timeout_is_a_length_of_time(timeout, seconds):
    assert BackpressureRules.of({"circuit_breaker": {"timeout": timeout}}).timeout == seconds


@pytest.mark.parametrize(
    "document",
    [
        {"load_threshold": "high"},
        {"load_threshold": float("nan")},
        {"circuit_breaker": {"timeout": "99ms"}},
        {"circuit_breaker": {"timeout": "3601s"}},
        {"circuit_breaker": {"timeout": 30}},
        {"circuit_breaker": {"failure_threshold": 1.5}},
        {"load_shedding": {"priority_levels": [{"level": 0, "multiplier": 1.0}]}},
        {"load_shedding": 3},
        {"unknown": 1},
        7,
    ],
)
def test_what_is_none_is_refused(document):
    with pytest.raises(InvalidInput):
        BackpressureRules.of(document)
