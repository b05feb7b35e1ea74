"""The retry budget as a gate, and one call's way through its attempts."""

from __future__ import annotations

import threading

import pytest

from headgate.errors import InvalidInput, InvalidKey, Overloaded, RateLimited
from headgate.gates.answers import Answer
from headgate.gates.client_throttle import ClientThrottle
from headgate.gates.retry import RetryBudget, RetryRules
from headgate.testing import ManualClock

S = 1_000_000_000


@pytest.fixture
def clock():
    return ManualClock()


def rules_of(clock, **settings):
    return RetryRules(clock=clock, uniform=lambda: 0.0, **settings)


def overloaded(attempts, retry_after=0.0):
    return attempts.ended(Answer(503, int(retry_after * S)), well=False, retryable=True)


def test_each_upstream_has_a_budget_of_its_own():
    budget = RetryBudget()
    assert sum(budget.take("search") for _ in range(50)) == 10
    assert budget.take("mail")
    budget.succeeded("search")
    assert budget.left("search") == 0.1
    assert budget.left("unknown") == 10.0


def test_only_so_many_are_remembered_and_those_that_were_spent_longest():
    budget = RetryBudget(max_upstreams=20)
    while budget.take("spent"):
        pass
    for number in range(1_000):
        budget.succeeded(f"upstream-{number}")
    assert budget.left("spent") == 0.0


def test_threads_take_no_more_than_there_is():
    budget = RetryBudget(start=100)
    taken = []
    threads = [
        threading.Thread(target=lambda: taken.append(sum(budget.take() for _ in range(60))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == 100


def test_three_attempts_and_no_more(clock):
    attempts = rules_of(clock).begin("search", 2)
    attempts.enter()
    assert overloaded(attempts) == 0.1
    assert attempts.resume()
    assert overloaded(attempts) == 0.2
    assert attempts.resume()
    assert overloaded(attempts) is None


def test_the_upstreams_wait_comes_before_ours(clock):
    attempts = rules_of(clock).begin("search", 2)
    attempts.enter()
    assert overloaded(attempts, retry_after=2.5) == 2.6


def test_none_begins_past_the_deadline(clock):
    attempts = rules_of(clock, timeout=1.0).begin("search", 2)
    attempts.enter()
    assert attempts.seconds_left == 1.0
    assert overloaded(attempts, retry_after=0.9) is None
    clock.advance(0.5)
    assert overloaded(attempts) == 0.2
    clock.advance(0.6)
    assert attempts.seconds_left == 0.0
    assert not attempts.resume()


def test_a_call_may_have_a_deadline_of_its_own_or_none(clock):
    assert rules_of(clock, timeout=1.0).begin("search", 2, S // 2).seconds_left == 0.5
    attempts = rules_of(clock, timeout=None).begin("search", 2)
    attempts.enter()
    assert attempts.seconds_left is None
    assert overloaded(attempts, retry_after=3_600) == 3600.1


def test_an_empty_budget_is_not_waited_for(clock):
    rules = rules_of(clock, budget=RetryBudget(start=0))
    attempts = rules.begin("search", 2)
    attempts.enter()
    assert overloaded(attempts) is None


def test_a_retry_is_paid_for_when_its_wait_is_over(clock):
    rules = rules_of(clock, budget=RetryBudget(start=1))
    first, second = rules.begin("search", 2), rules.begin("search", 2)
    first.enter()
    second.enter()
    assert overloaded(first) == 0.1
    assert overloaded(second) == 0.1
    assert rules.budget.left("search") == 1.0
    assert first.resume()
    assert not second.resume()


def test_who_gives_up_while_waiting_has_cost_nothing(clock):
    rules = rules_of(clock)
    for _ in range(100):
        attempts = rules.begin("search", 2)
        attempts.enter()
        attempts.ended(None, well=False, retryable=True)
    assert rules.budget.left("search") == 10.0


def test_success_feeds_the_budget(clock):
    rules = rules_of(clock)
    attempts = rules.begin("search", 2)
    attempts.enter()
    assert attempts.ended(Answer(200), well=True, retryable=False) is None
    assert rules.budget.left("search") == 10.1


def test_what_may_not_be_tried_again_is_not(clock):
    attempts = rules_of(clock).begin("search", 2)
    attempts.enter()
    assert attempts.ended(Answer(500), well=False, retryable=False) is None


def test_a_limit_that_does_not_tell_when_is_not_asked_again(clock):
    attempts = rules_of(clock).begin("search", 2)
    attempts.enter()
    assert attempts.ended(Answer(429), well=False, retryable=True) is None
    assert attempts.ended(Answer(429, S, S), well=False, retryable=True) == 1.1


def test_a_limit_is_asked_again_when_it_said_and_not_before(clock):
    rules = rules_of(clock)
    attempts = rules.begin("search", 2)
    attempts.enter()
    wait = attempts.ended(Answer(429, S, S), well=False, retryable=True)
    with pytest.raises(RateLimited):
        rules.begin("search", 0).enter()
    clock.advance(wait)
    assert attempts.resume()


def test_what_the_throttle_refuses_is_not_sent(clock):
    rules = rules_of(clock)
    attempts = rules.begin("search", 2)
    attempts.enter()
    for _ in range(30):
        rules.throttle.record("search", overloaded=True)
    with pytest.raises(Overloaded):
        rules.begin("search", 2).enter()
    assert overloaded(attempts) == 0.1
    assert not attempts.resume()
    assert rules.budget.left("search") == 10.0


def test_the_clock_is_the_throttles_when_none_is_given(clock):
    throttle = ClientThrottle(clock=clock)
    assert RetryRules(throttle=throttle).clock is clock


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"attempts": 0}, "attempts must be 1 to 100"),
        ({"attempts": 1.5}, "attempts must be a whole number"),
        ({"timeout": 0}, "timeout must be above 0"),
        ({"timeout": float("nan")}, "timeout must be above 0 .*; None for never"),
        ({"throttle": 5}, "throttle must be a ClientThrottle"),
        ({"budget": 5}, "budget must be a RetryBudget"),
        ({"first_backoff": 0}, "first_backoff must be above 0"),
        ({"first_backoff": 9}, "first_backoff must be at most max_backoff"),
        ({"max_backoff": float("inf")}, "max_backoff must be above 0"),
        ({"uniform": 1}, "uniform must be callable"),
    ],
)
def test_impossible_rules(settings, message):
    with pytest.raises(InvalidInput, match=message):
        RetryRules(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"start": -1}, "start must be 0 to"),
        ({"most": 0}, "most must be 1 to"),
        ({"per_success": 1.1}, "per_success must be 0 to 1"),
        ({"per_success": float("nan")}, "per_success must be 0 to 1"),
        ({"max_upstreams": 0}, "max_upstreams must be 1 to"),
    ],
)
def test_impossible_budgets(settings, message):
    with pytest.raises(InvalidInput, match=message):
        RetryBudget(**settings)


def test_upstreams_have_names():
    budget = RetryBudget()
    for call in (budget.left, budget.take, budget.succeeded):
        with pytest.raises(InvalidKey):
            call("")
