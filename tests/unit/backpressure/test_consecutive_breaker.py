"""The circuit breaker that counts failures in a row, with plain numbers."""

from __future__ import annotations

import pytest

from headgate.backpressure.consecutive_breaker import (
    ANY_CALL,
    Circuit,
    CircuitState,
    ConsecutiveBreaker,
)

RECOVERY, PROBE = 1000, 100


@pytest.fixture
def breaker() -> ConsecutiveBreaker:
    return ConsecutiveBreaker(3, RECOVERY, PROBE)


@pytest.fixture
def circuit() -> Circuit:
    return Circuit()


def opened(breaker: ConsecutiveBreaker, circuit: Circuit, now: int = 0) -> None:
    for _ in range(3):
        breaker.failed(circuit, ANY_CALL, now)


def test_a_new_circuit_is_closed(breaker, circuit):
    assert breaker.wait(circuit, 0) == 0
    assert breaker.state(circuit, 0) is CircuitState.CLOSED
    assert breaker.is_clean(circuit)


def test_failures_in_a_row_open_it(breaker, circuit):
    for _ in range(2):
        breaker.failed(circuit, ANY_CALL, 0)
    assert breaker.state(circuit, 0) is CircuitState.CLOSED
    breaker.failed(circuit, ANY_CALL, 0)
    assert breaker.state(circuit, 0) is CircuitState.OPEN
    assert breaker.wait(circuit, 0) == RECOVERY
    assert breaker.wait(circuit, 999) == 1


def test_a_success_between_them_starts_the_count_anew(breaker, circuit):
    for _ in range(5):
        breaker.failed(circuit, ANY_CALL, 0)
        breaker.failed(circuit, ANY_CALL, 0)
        breaker.succeeded(circuit, ANY_CALL, 0)
    assert breaker.state(circuit, 0) is CircuitState.CLOSED


def test_after_the_recovery_time_one_call_probes(breaker, circuit):
    opened(breaker, circuit)
    assert breaker.state(circuit, RECOVERY) is CircuitState.HALF_OPEN
    assert breaker.wait(circuit, RECOVERY) == 0
    breaker.enter(circuit, RECOVERY)
    assert breaker.state(circuit, RECOVERY) is CircuitState.HALF_OPEN
    assert breaker.wait(circuit, RECOVERY) == PROBE


def test_a_good_probe_closes_it(breaker, circuit):
    opened(breaker, circuit)
    ticket = breaker.enter(circuit, RECOVERY)
    breaker.succeeded(circuit, ticket, RECOVERY + 1)
    assert breaker.state(circuit, RECOVERY + 1) is CircuitState.CLOSED
    assert breaker.is_clean(circuit)


def test_a_bad_probe_opens_it_for_the_whole_time_again(breaker, circuit):
    opened(breaker, circuit)
    ticket = breaker.enter(circuit, RECOVERY)
    breaker.failed(circuit, ticket, RECOVERY + 1)
    assert breaker.state(circuit, RECOVERY + 1) is CircuitState.OPEN
    assert breaker.wait(circuit, RECOVERY + 1) == RECOVERY


def test_a_probe_that_hangs_does_not_stick_it(breaker, circuit):
    opened(breaker, circuit)
    hung = breaker.enter(circuit, RECOVERY)
    later = RECOVERY + PROBE
    assert breaker.wait(circuit, later) == 0
    second = breaker.enter(circuit, later)
    breaker.failed(circuit, hung, later)  # too late to be heard
    assert breaker.state(circuit, later) is CircuitState.HALF_OPEN
    breaker.succeeded(circuit, second, later)
    assert breaker.state(circuit, later) is CircuitState.CLOSED


def test_an_abandoned_probe_makes_room_at_once(breaker, circuit):
    opened(breaker, circuit)
    ticket = breaker.enter(circuit, RECOVERY)
    breaker.abandoned(circuit, ticket, RECOVERY + 5)
    assert breaker.state(circuit, RECOVERY + 5) is CircuitState.HALF_OPEN
    assert breaker.wait(circuit, RECOVERY + 5) == 0


def test_an_abandoned_call_of_a_closed_circuit_says_nothing(breaker, circuit):
    ticket = breaker.enter(circuit, 0)
    breaker.failed(circuit, ticket, 0)
    breaker.abandoned(circuit, ticket, 0)
    assert circuit.failures == 1


def test_an_abandoned_call_from_before_does_not_end_the_probe(breaker, circuit):
    before = breaker.enter(circuit, 0)
    opened(breaker, circuit)
    breaker.enter(circuit, RECOVERY)
    breaker.abandoned(circuit, before, RECOVERY)
    assert breaker.wait(circuit, RECOVERY) == PROBE


@pytest.mark.parametrize("ticketed", [True, False])
def test_what_is_said_while_it_is_open_is_not_heard(breaker, circuit, ticketed):
    ticket = breaker.enter(circuit, 0) if ticketed else ANY_CALL
    opened(breaker, circuit)
    breaker.succeeded(circuit, ticket, 5)
    breaker.failed(circuit, ticket, 5)
    assert breaker.state(circuit, 5) is CircuitState.OPEN
    assert breaker.wait(circuit, 5) == RECOVERY - 5


def test_calls_from_before_an_outage_do_not_count_after_it(breaker, circuit):
    before = [breaker.enter(circuit, 0) for _ in range(20)]
    opened(breaker, circuit)
    ticket = breaker.enter(circuit, RECOVERY)
    breaker.succeeded(circuit, ticket, RECOVERY)
    for stale in before:
        breaker.failed(circuit, stale, RECOVERY)
    assert breaker.state(circuit, RECOVERY) is CircuitState.CLOSED
    assert circuit.failures == 0


def test_an_old_success_does_not_close_it_while_a_probe_runs(breaker, circuit):
    before = breaker.enter(circuit, 0)
    opened(breaker, circuit)
    breaker.enter(circuit, RECOVERY)
    breaker.succeeded(circuit, before, RECOVERY)
    assert breaker.state(circuit, RECOVERY) is CircuitState.HALF_OPEN


def test_without_a_ticket_the_word_counts_once_the_recovery_time_is_over(breaker, circuit):
    opened(breaker, circuit)
    breaker.failed(circuit, ANY_CALL, RECOVERY)
    assert breaker.state(circuit, RECOVERY) is CircuitState.OPEN
    breaker.succeeded(circuit, ANY_CALL, 2 * RECOVERY)
    assert breaker.state(circuit, 2 * RECOVERY) is CircuitState.CLOSED


def test_a_clock_that_went_back_does_not_keep_it_open(breaker, circuit):
    opened(breaker, circuit, now=10**9)
    assert breaker.wait(circuit, 10**6) == 0
    assert breaker.state(circuit, 10**6) is CircuitState.HALF_OPEN
