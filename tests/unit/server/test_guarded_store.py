"""A store behind its breaker: when it is left alone, and what is said then."""

from __future__ import annotations

import pytest

from headgate.backpressure.breaker_rule import CircuitState
from headgate.errors import NotFound, StoreUnavailable
from headgate.server.guarded_store import GuardedStore
from headgate.storage import open_store
from headgate.testing import ManualClock


class Setup:
    def __init__(self, **rule) -> None:
        self.clock = ManualClock()
        self.inner = open_store("memory://", self.clock)
        self.store = GuardedStore(self.inner, self.clock, **rule)
        self.asked = 0

    def break_it(self) -> None:
        def gone(*_: object) -> None:
            self.asked += 1
            raise StoreUnavailable("gone")

        self.inner.policies.list = gone

    def mend(self) -> None:
        del self.inner.policies.list

    def fail(self, times: int = 1) -> StoreUnavailable:
        for _ in range(times):
            with pytest.raises(StoreUnavailable) as caught:
                self.store.policies.list()
        return caught.value


def test_after_failures_in_a_row_it_is_not_asked_any_more():
    setup = Setup(failure_threshold=3)
    setup.break_it()
    assert setup.fail(3).message == "gone"
    refused = setup.fail()
    assert setup.asked == 3
    assert "is left alone" in refused.message
    assert 4.0 <= refused.context["retry_after"] <= 6.0
    with pytest.raises(StoreUnavailable, match="is left alone"):
        setup.store.settings.get("x")
    with pytest.raises(StoreUnavailable, match="is left alone"):
        setup.store.ping()


def test_that_something_is_not_there_is_an_answer():
    setup = Setup(failure_threshold=1)
    for _ in range(5):
        with pytest.raises(NotFound):
            setup.store.policies.get("nothing")
    assert setup.store.breaker.state is CircuitState.CLOSED


def test_it_is_tried_again_and_comes_back():
    setup = Setup(failure_threshold=1, recovery_threshold=2, timeout=10.0)
    setup.break_it()
    setup.fail(2)
    assert setup.asked == 1
    setup.clock.advance(12.1)
    setup.fail()
    assert setup.asked == 2
    setup.mend()
    setup.clock.advance(24.1)
    setup.store.policies.list()
    assert setup.store.breaker.state is CircuitState.HALF_OPEN
    setup.store.policies.list()
    assert setup.store.breaker.state is CircuitState.CLOSED


def test_another_rule_begins_anew_and_the_same_changes_nothing():
    setup = Setup(failure_threshold=1)
    setup.break_it()
    setup.fail()
    setup.store.apply(1, 1, 5.0)
    assert setup.store.breaker.state is CircuitState.OPEN
    setup.store.apply(2, 1, 5.0)
    assert setup.store.breaker.state is CircuitState.CLOSED


def test_closing_needs_no_permission():
    setup = Setup(failure_threshold=1)
    setup.break_it()
    setup.fail()
    with setup.store:
        pass
    assert setup.inner._gate.closed
