"""The calculator of circuit breakers, with plain numbers."""

from __future__ import annotations

import pytest

from headgate.backpressure.breaker import ANY_CALL, IGNORED, NO_LEASE, REFUSED, Breaker
from headgate.backpressure.breaker_rule import (
    CLOSED,
    DISABLED,
    FORCED_OPEN,
    HALF_OPEN,
    METRICS_ONLY,
    OPEN,
    RAMP,
    STATES,
    BreakerRule,
)
from headgate.backpressure.outcome_window import FAILED, SLOW, SUCCEEDED

SECOND = 10**9
YEARS = 5 * 365 * 86_400 * SECOND
EVEN = 0.5  # jitter of nothing


def call(breaker, outcome=SUCCEEDED, now=0, uniform=EVEN, told_ns=0):
    """A call that is admitted and ends at once; whether it was admitted."""
    lease = breaker.admit(now, uniform)
    if lease == REFUSED:
        return False
    breaker.record(breaker.epoch, lease, outcome, now, uniform, told_ns)
    return True


def opened(now=0, **settings):
    breaker = Breaker(BreakerRule(in_row=1, **settings))
    call(breaker, FAILED, now)
    assert breaker.state == OPEN
    return breaker


def ramping(now=0, **settings):
    breaker = Breaker(BreakerRule(in_row=2, successes=1, **settings))
    call(breaker, FAILED, now)
    call(breaker, FAILED, now)
    now += breaker.wait(now)
    assert call(breaker, SUCCEEDED, now)
    assert breaker.state == RAMP
    return breaker, now


def test_half_of_twenty_calls_open_it():
    breaker = Breaker(BreakerRule())
    for outcome in [FAILED] * 10 + [SUCCEEDED] * 9:
        call(breaker, outcome)
    assert breaker.state == CLOSED
    call(breaker)
    assert breaker.state == OPEN


def test_just_below_half_does_not():
    breaker = Breaker(BreakerRule())
    for number in range(1000):
        call(breaker, FAILED if number % 100 >= 51 else SUCCEEDED)
    assert breaker.state == CLOSED


def test_failures_that_are_older_than_the_window_do_not_count():
    breaker = Breaker(BreakerRule())
    for number in range(190):
        call(breaker, FAILED, number * SECOND)  # at most ten are in the window
    assert breaker.state == CLOSED


def test_the_last_calls_when_they_are_counted():
    breaker = Breaker(BreakerRule(window_calls=100))
    for number in range(60):
        call(breaker, SUCCEEDED, number * 3600 * SECOND)
    for number in range(49):
        call(breaker, FAILED, number * 3600 * SECOND)
    assert breaker.state == CLOSED
    for number in range(10):
        call(breaker, FAILED, number)
    assert breaker.state == OPEN


def test_slow_calls_open_it_too():
    breaker = Breaker(BreakerRule(slow_rate=0.8))
    for outcome in [SLOW] * 15 + [SUCCEEDED] * 4:
        call(breaker, outcome)
    assert breaker.state == CLOSED
    call(breaker, SLOW)
    assert breaker.state == OPEN


def test_failures_in_a_row_open_it_and_a_success_between_prevents_that():
    breaker = Breaker(BreakerRule(in_row=5, failure_rate=0.0))
    for outcome in [FAILED] * 4 + [SUCCEEDED] + [FAILED] * 4:
        call(breaker, outcome)
    assert breaker.state == CLOSED
    call(breaker, FAILED)
    assert breaker.state == OPEN


def test_open_times_double_up_to_a_minute():
    breaker, now, waits = opened(), 0, []
    for _ in range(6):
        waits.append(breaker.wait(now) // SECOND)
        now += breaker.wait(now)
        assert call(breaker, FAILED, now)
    assert waits == [5, 10, 20, 40, 60, 60]


@pytest.mark.parametrize(("uniform", "seconds"), [(0.0, 4.0), (0.5, 5.0), (0.999999999, 6.0)])
def test_open_times_vary_by_a_fifth(uniform, seconds):
    breaker = Breaker(BreakerRule(in_row=1))
    call(breaker, FAILED, 0, uniform)
    assert breaker.wait(0) == pytest.approx(seconds * SECOND)


def test_the_callee_may_ask_for_longer_but_not_for_ever_nor_for_less():
    for told, expected in ((120, 120), (1, 5), (10**9, 3600)):
        breaker = Breaker(BreakerRule(in_row=1))
        call(breaker, FAILED, 0, told_ns=told * SECOND)
        assert breaker.wait(0) == expected * SECOND


def test_what_was_told_before_it_opened_holds_still():
    breaker = Breaker(BreakerRule(in_row=2))
    call(breaker, FAILED, 0, told_ns=100 * SECOND)
    call(breaker, FAILED, 10 * SECOND)
    assert breaker.wait(10 * SECOND) == 90 * SECOND


def test_open_refuses_until_its_time_is_over_to_the_nanosecond():
    breaker = opened()
    assert breaker.admit(5 * SECOND - 1, EVEN) == REFUSED
    assert breaker.state_at(5 * SECOND - 1) == OPEN
    assert breaker.state_at(5 * SECOND) == HALF_OPEN
    assert breaker.admit(5 * SECOND, EVEN) > 0


def test_three_probes_at_a_time_and_five_successes():
    breaker = opened()
    now = breaker.wait(0)
    leases = [breaker.admit(now, EVEN) for _ in range(200)]
    probes = [lease for lease in leases if lease != REFUSED]
    assert len(probes) == 3
    assert (
        breaker.wait(now) == SECOND
    )  # when they end is not known; when their leases do is too late
    assert breaker.wait(now + 29 * SECOND + SECOND // 2) == SECOND // 2
    for lease in probes:
        breaker.record(breaker.epoch, lease, SUCCEEDED, now, EVEN)
    assert breaker.wait(now) == 0
    assert call(breaker, SUCCEEDED, now)
    assert breaker.state == HALF_OPEN
    assert call(breaker, SUCCEEDED, now)
    assert breaker.state == RAMP


@pytest.mark.parametrize("outcome", [FAILED, SLOW, FAILED | SLOW])
def test_one_bad_probe_opens_it_again_for_longer(outcome):
    breaker = opened(slow_rate=0.8)
    now = breaker.wait(0)
    call(breaker, SUCCEEDED, now)
    call(breaker, outcome, now)
    assert breaker.state == OPEN
    assert breaker.wait(now) == 10 * SECOND


def test_a_probe_that_hangs_makes_room_when_its_lease_ends():
    breaker = opened(probes=1)
    now = breaker.wait(0)
    lease = breaker.admit(now, EVEN)
    epoch = breaker.epoch
    later = now + 30 * SECOND
    assert breaker.admit(later - 1, EVEN) == REFUSED
    assert breaker.probes(later) == 0
    second = breaker.admit(later, EVEN)
    assert second not in {REFUSED, lease}
    assert not breaker.record(epoch, lease, SUCCEEDED, later, EVEN)
    assert breaker.successes == 0
    assert breaker.probes(later) == 1


def test_a_success_after_the_lease_is_not_heard_though_its_place_was_not_taken():
    breaker = opened(successes=1)
    now = breaker.wait(0)
    lease = breaker.admit(now, EVEN)
    assert not breaker.record(breaker.epoch, lease, SUCCEEDED, now + 30 * SECOND, EVEN)
    assert breaker.state == HALF_OPEN


def test_a_failure_after_the_lease_is_heard():
    breaker = opened(probes=1)
    now = breaker.wait(0)
    lease = breaker.admit(now, EVEN)
    breaker.admit(now + 30 * SECOND, EVEN)
    assert breaker.record(breaker.epoch, lease, FAILED, now + 31 * SECOND, EVEN)
    assert breaker.state == OPEN


def test_a_probe_that_was_cancelled_gives_its_place_back():
    breaker = opened(probes=1)
    now = breaker.wait(0)
    lease = breaker.admit(now, EVEN)
    assert breaker.admit(now, EVEN) == REFUSED
    assert not breaker.record(breaker.epoch, lease, IGNORED, now, EVEN)
    assert breaker.admit(now, EVEN) > 0


def test_a_probe_told_twice_counts_once():
    breaker = opened()
    now = breaker.wait(0)
    lease = breaker.admit(now, EVEN)
    assert breaker.record(breaker.epoch, lease, SUCCEEDED, now, EVEN)
    assert not breaker.record(breaker.epoch, lease, SUCCEEDED, now, EVEN)
    assert breaker.successes == 1


def test_outcomes_of_another_epoch_are_not_heard():
    breaker = Breaker(BreakerRule(in_row=1))
    stale = breaker.epoch
    call(breaker, FAILED)
    now = breaker.wait(0)
    breaker.admit(now, EVEN)
    assert not breaker.record(stale, NO_LEASE, FAILED, now, EVEN)
    assert breaker.state == HALF_OPEN


def test_outcomes_of_no_known_call():
    breaker = Breaker(BreakerRule(in_row=1))
    assert breaker.record(ANY_CALL, NO_LEASE, FAILED, 0, EVEN)
    assert breaker.state == OPEN
    assert not breaker.record(ANY_CALL, NO_LEASE, FAILED, 0, EVEN)
    now = breaker.wait(0)
    breaker.admit(now, EVEN)
    assert not breaker.record(ANY_CALL, NO_LEASE, SUCCEEDED, now, EVEN)
    assert breaker.record(ANY_CALL, NO_LEASE, FAILED, now, EVEN)
    assert breaker.state == OPEN


def test_the_ramp_lets_its_share_pass():
    breaker, now = ramping(step_ns=3600 * SECOND, step_calls=1)
    draws = [number / 1000 for number in range(1000)]
    assert breaker.share() == 0.1
    assert sum(breaker.admit(now, draw) != REFUSED for draw in draws) == 100


def test_the_ramp_climbs_after_five_seconds_and_ten_calls():
    breaker, now = ramping()
    shares = []
    while breaker.state == RAMP:
        shares.append(breaker.share())
        for _ in range(9):
            assert call(breaker, SUCCEEDED, now, 0.0)
        assert breaker.share() == shares[-1]
        now += 5 * SECOND
        call(breaker, SUCCEEDED, now, 0.0)
    assert shares == [0.1, 0.25, 0.5, 0.75, 1.0]
    assert breaker.state == CLOSED


def test_a_step_lasts_its_time_however_many_calls_it_had():
    breaker, now = ramping()
    for _ in range(1000):
        call(breaker, SUCCEEDED, now + 5 * SECOND - 1, 0.0)
    assert breaker.step == 0


def test_who_calls_seldom_is_not_refused_for_the_sake_of_a_share():
    breaker, now = ramping()
    for _ in range(60):
        now += SECOND // 2
        assert call(breaker, SUCCEEDED, now, 0.999)
    assert breaker.state == CLOSED


def test_a_refusal_by_the_ramp_says_when_a_call_surely_passes():
    breaker, now = ramping()
    assert breaker.admit(now, 0.999) == NO_LEASE
    assert breaker.admit(now, 0.999) == REFUSED
    wait = breaker.wait(now)
    assert wait == SECOND // 2
    assert breaker.admit(now + wait - 1, 0.999) == REFUSED
    assert breaker.admit(now + wait, 0.999) == NO_LEASE


def test_failures_over_half_the_level_step_back():
    breaker, now = ramping(steps=(0.1, 0.5, 1.0))
    breaker.rule.in_row = 0
    for outcomes, step in (([SUCCEEDED] * 10, 1), ([FAILED] * 3 + [SUCCEEDED] * 7, 0)):
        now += 5 * SECOND
        for outcome in outcomes:
            call(breaker, outcome, now, 0.0)
        assert (breaker.state, breaker.step) == (RAMP, step)
    now += 5 * SECOND
    for outcome in [FAILED] * 3 + [SUCCEEDED] * 7:
        call(breaker, outcome, now, 0.0)
    assert (breaker.state, breaker.step) == (RAMP, 0)  # there is nothing before the first


def test_a_run_of_over_half_the_threshold_steps_back_when_rows_are_what_counts():
    breaker = Breaker(BreakerRule(in_row=4, failure_rate=0.0, successes=1))
    for _ in range(4):
        call(breaker, FAILED)
    now = breaker.wait(0)
    call(breaker, SUCCEEDED, now)
    for outcome in [SUCCEEDED] * 9 + [FAILED]:
        call(breaker, outcome, now + 5 * SECOND, 0.0)
    assert breaker.step == 1
    for outcome in [FAILED] * 2 + [SUCCEEDED] * 8:
        call(breaker, outcome, now + 10 * SECOND, 0.0)
    assert breaker.step == 0


def test_failures_at_the_level_open_it_again():
    breaker, now = ramping()
    breaker.rule.in_row = 0
    for outcome in [FAILED] * 4 + [SUCCEEDED] * 5:
        call(breaker, outcome, now, 0.0)
    assert breaker.state == RAMP
    call(breaker, FAILED, now, 0.0)
    assert breaker.state == OPEN
    assert breaker.wait(now) == 8 * SECOND  # 10 s less a fifth, by the draw


def test_without_a_ramp_it_closes_at_once():
    breaker = opened(successes=1, steps=())
    now = breaker.wait(0)
    assert call(breaker, SUCCEEDED, now)
    assert breaker.state == CLOSED


@pytest.mark.parametrize(("clean", "seconds"), [(59, 10), (60, 5)])
def test_a_clean_minute_begins_the_open_times_afresh(clean, seconds):
    breaker = opened(successes=1, steps=())
    now = breaker.wait(0)
    call(breaker, SUCCEEDED, now)
    now += clean * SECOND
    call(breaker, FAILED, now)
    assert breaker.wait(now) == seconds * SECOND


def test_closing_forgets_the_failures_that_opened_it():
    breaker = Breaker(BreakerRule(successes=1, steps=()))
    for _ in range(20):
        call(breaker, FAILED)
    now = breaker.wait(0)
    call(breaker, SUCCEEDED, now)
    call(breaker, FAILED, now)
    assert breaker.state == CLOSED
    assert (breaker.window.calls, breaker.window.failures) == (1, 1)


@pytest.mark.parametrize(
    ("state", "admits", "counts"),
    [(FORCED_OPEN, False, 0), (DISABLED, True, 0), (METRICS_ONLY, True, 100)],
)
def test_forced_states_stay(state, admits, counts):
    breaker = Breaker(BreakerRule(in_row=1))
    breaker.force(state, 0)
    for number in range(100):
        assert call(breaker, FAILED, number * SECOND // 20) is admits
    assert breaker.state == state
    assert breaker.window.calls == counts
    assert breaker.wait(0) == (0 if admits else 5 * SECOND)
    breaker.force(CLOSED, YEARS)
    assert call(breaker, SUCCEEDED, YEARS)


def test_opened_by_hand_it_recovers_by_itself():
    breaker = Breaker(BreakerRule())
    breaker.force(OPEN, 0)
    assert breaker.wait(0) == 5 * SECOND
    assert call(breaker, SUCCEEDED, 5 * SECOND)
    assert breaker.state == HALF_OPEN


@pytest.mark.parametrize("jump", [-YEARS, YEARS])
def test_no_jump_of_the_clock_leaves_it_stuck_open(jump):
    breaker = opened(YEARS)
    assert call(breaker, SUCCEEDED, YEARS + jump)
    assert breaker.state == HALF_OPEN


def test_a_small_step_back_of_the_clock_neither_opens_nor_closes_anything():
    breaker = opened(YEARS)
    assert breaker.wait(YEARS - 1) == 5 * SECOND
    assert breaker.admit(YEARS - 4 * SECOND, EVEN) == REFUSED
    assert breaker.admit(YEARS - 6 * SECOND, EVEN) > 0


@pytest.mark.parametrize("jump", [-YEARS, YEARS])
def test_no_jump_of_the_clock_keeps_probes_out(jump):
    breaker = opened(YEARS)
    now = YEARS + 5 * SECOND
    for _ in range(3):
        assert breaker.admit(now, EVEN) > 0
    assert breaker.admit(now, EVEN) == REFUSED
    assert breaker.admit(now + jump, EVEN) > 0


@pytest.mark.parametrize("jump", [-YEARS, YEARS])
def test_no_jump_of_the_clock_holds_up_the_ramp(jump):
    breaker, now = ramping(YEARS)
    now += jump
    for _ in range(100):
        now += SECOND
        assert call(breaker, SUCCEEDED, now, 0.999)
    assert breaker.state == CLOSED


@pytest.mark.parametrize("state", [CLOSED, OPEN, HALF_OPEN, RAMP, FORCED_OPEN, DISABLED])
def test_it_goes_on_from_what_another_one_said(state):
    breaker = Breaker(BreakerRule())
    breaker.resume(state, 3 * SECOND, 2, 1, 100 * SECOND)
    assert STATES[breaker.state_at(100 * SECOND)] is STATES[state]
    if state == OPEN:
        assert breaker.wait(100 * SECOND) == 3 * SECOND
        assert call(breaker, FAILED, 103 * SECOND)
        assert breaker.wait(103 * SECOND) == 20 * SECOND
    if state == RAMP:
        assert breaker.share() == 0.25


def test_a_step_that_it_does_not_have_lets_all_pass():
    breaker = Breaker(BreakerRule(steps=()))
    breaker.resume(RAMP, 0, 1, 2, 0)
    assert breaker.share() == 1.0
    assert all(call(breaker, SUCCEEDED, 6 * SECOND, 0.999) for _ in range(10))
    assert breaker.state == CLOSED


@pytest.mark.parametrize("steps", [(), (1.0,)])
def test_failures_in_a_row_are_counted_afresh_after_it_was_open(steps):
    breaker = Breaker(BreakerRule(in_row=2, failure_rate=0.0, successes=1, steps=steps))
    call(breaker, FAILED)
    call(breaker, FAILED)
    now = breaker.wait(0)
    call(breaker, SUCCEEDED, now)
    call(breaker, FAILED, now)
    assert breaker.state == (RAMP if steps else CLOSED)
    call(breaker, FAILED, now)
    assert breaker.state == OPEN
