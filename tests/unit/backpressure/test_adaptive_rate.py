from __future__ import annotations

import pytest

from headgate.backpressure.adaptive_rate import (
    PERIOD_NS,
    AdaptiveRule,
    AimdRate,
    StepwiseRate,
    make_rate_rule,
)
from headgate.errors import InvalidInput


def looks(rule, *pressures, used=True, start=0):
    now = start
    factors = []
    for pressure in pressures:
        factors.append(rule.update(pressure, used, now))
        now += PERIOD_NS
    return factors


def test_aimd_gives_way_by_how_much_too_much_it_is():
    assert looks(AimdRate(), 1.0, 1.25, 10.0) == pytest.approx([0.9, 0.72, 0.36])


def test_aimd_comes_back_by_a_fortieth_of_its_highest():
    rule = AimdRate()
    looks(rule, 2.0)
    assert looks(rule, *[0.5] * 3, start=PERIOD_NS) == pytest.approx([0.525, 0.55, 0.575])
    rule = AimdRate()
    looks(rule, *[0.5] * 20)
    top = rule.factor
    assert top > 1.5
    looks(rule, 1.0, 0.5, start=20 * PERIOD_NS)
    assert rule.factor == pytest.approx(0.9 * top + 0.025 * top)


@pytest.mark.parametrize("pressure", [0.8, 0.9, 0.999])
def test_aimd_holds_still_in_between(pressure):
    assert looks(AimdRate(), *[pressure] * 5) == [1.0] * 5


@pytest.mark.parametrize("rule", [AimdRate, StepwiseRate])
def test_what_is_not_used_does_not_grow(rule):
    assert looks(rule(), *[0.1] * 50, used=False) == [1.0] * 50


@pytest.mark.parametrize("rule", [AimdRate, StepwiseRate])
@pytest.mark.parametrize(
    ("pressure", "end"), [(100.0, 0.25), (float("inf"), 0.25), (0.0, 2.0), (-5.0, 2.0)]
)
def test_it_stays_between_a_quarter_and_twice(rule, pressure, end):
    factors = looks(rule(), *[pressure] * 100)
    assert factors[-1] == end
    assert all(0.25 <= factor <= 2.0 for factor in factors)


def test_stepwise_goes_the_same_part_up_and_down():
    factors = looks(StepwiseRate(0.5, 0.2), 0.51, 0.51, 0.5, 0.0)
    assert factors == pytest.approx([0.8, 0.64, 0.768, 0.9216])


@pytest.mark.parametrize("rule", [AimdRate, StepwiseRate])
def test_a_look_that_comes_too_soon_changes_nothing(rule):
    rule = rule()
    before = rule.update(5.0, True, 0)
    for now in (0, 1, PERIOD_NS - 1):
        assert not rule.is_due(now)
        assert rule.update(5.0, True, now) == before
    assert rule.is_due(PERIOD_NS)
    assert rule.update(5.0, True, PERIOD_NS) < before


@pytest.mark.parametrize("rule", [AimdRate, StepwiseRate])
def test_a_clock_that_went_back_does_not_stop_it(rule):
    rule = rule()
    rule.update(5.0, True, 10**18)
    before = rule.factor
    assert rule.update(5.0, True, 0) < before


@pytest.mark.parametrize("rule", [AimdRate, StepwiseRate])
def test_no_number_is_no_pressure(rule):
    rule = rule()
    assert rule.update(float("nan"), True, 0) == 1.0
    assert rule.update(5.0, True, 0) < 1.0


def test_the_base_decides_nothing():
    with pytest.raises(NotImplementedError):
        AdaptiveRule().update(0.0, True, 0)


@pytest.mark.parametrize(
    "settings",
    [
        ("aimed",),
        (None,),
        (5,),
        (10**6000,),
        ("aimd", 0.5),
        ("aimd", None, 0.1),
        ("stepwise", 0),
        ("stepwise", -1.0),
        ("stepwise", 10.1),
        ("stepwise", float("nan")),
        ("stepwise", float("inf")),
        ("stepwise", True),
        ("stepwise", "0.8"),
        ("stepwise", 10**6000),
        ("stepwise", 0.8, 0),
        ("stepwise", 0.8, 0.51),
        ("stepwise", 0.8, float("nan")),
    ],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(InvalidInput):
        make_rate_rule(*settings)


def test_the_rules_by_name():
    assert isinstance(make_rate_rule("aimd"), AimdRate)
    assert isinstance(make_rate_rule("stepwise"), StepwiseRate)
    assert looks(make_rate_rule("stepwise", 2, 0.5), 2.5) == [0.5]
