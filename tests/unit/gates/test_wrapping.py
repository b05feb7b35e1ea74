"""What decorators of all gates have in common: which things they take, and what these are afterwards."""

from __future__ import annotations

import asyncio
import functools
import inspect

import pytest

from headgate.errors import InvalidInput
from headgate.gates.adaptive_limiter import AdaptiveLimiter
from headgate.gates.circuit_breaker import CircuitBreaker
from headgate.gates.decorator import limit
from headgate.gates.features import Features
from headgate.gates.load_shedder import LoadShedder
from headgate.gates.upstream import Upstream
from headgate.testing import ManualClock

BINDING = {
    "breaker": lambda clock: CircuitBreaker("callee", clock=clock),
    "limiter": lambda clock: AdaptiveLimiter(clock=clock),
    "waiting": lambda clock: AdaptiveLimiter(clock=clock).guard(timeout=1.0),
    "shedder": lambda clock: LoadShedder(clock=clock).guard("low"),
    "limit": lambda clock: limit("1000/second", clock=clock),
}
PLAIN = {
    "upstream": lambda clock: Upstream("callee", clock=clock),
    "feature": lambda clock: Features(clock=clock).feature("extra"),
}
OTHERS = [staticmethod(len), classmethod(len), int, 5, None]


@pytest.fixture
def clock():
    return ManualClock()


@pytest.mark.parametrize("gate", BINDING)
def test_static_and_class_methods_stay_what_they_are(clock, gate):
    decorate = BINDING[gate](clock)

    class Shop:
        @decorate
        @staticmethod
        def static(item):
            return item

        @decorate
        @classmethod
        def of_class(cls, item):
            return cls, item

        @decorate
        def plain(self, item):
            return self, item

    shop = Shop()
    assert (Shop.static(1), shop.static(1)) == (1, 1)
    assert (Shop.of_class(1), shop.of_class(1)) == ((Shop, 1), (Shop, 1))
    assert shop.plain(1) == (shop, 1)


def test_a_key_is_found_in_the_arguments_of_a_class_method(clock):
    shedder = LoadShedder("queue", queue=lambda: 0, clock=clock)
    keys = []

    class Shop:
        @shedder.guard(key=lambda user: keys.append(user) or user)
        @classmethod
        def of_class(cls, user):
            return cls, user

    assert Shop.of_class(user="ann") == (Shop, "ann")
    assert keys == ["ann"]


@pytest.mark.parametrize("thing", OTHERS, ids=repr)
@pytest.mark.parametrize("gate", PLAIN)
def test_those_that_bind_nothing_say_so(clock, gate, thing):
    with pytest.raises(InvalidInput, match=r"@staticmethod|decorates"):
        PLAIN[gate](clock)(thing)


@pytest.mark.parametrize("thing", OTHERS[2:], ids=repr)
@pytest.mark.parametrize("gate", BINDING)
def test_what_is_no_function_is_refused_when_decorating(clock, gate, thing):
    with pytest.raises(InvalidInput, match="class"):
        BINDING[gate](clock)(thing)


@pytest.mark.parametrize("gate", {**BINDING, **PLAIN})
@pytest.mark.parametrize("kind", ["function", "object", "partial"])
def test_what_is_awaited_is_guarded_until_it_is_done(clock, gate, kind):
    class Fetch:
        async def __call__(self, item):
            return item

    async def fetch(item):
        return item

    given = {"function": fetch, "object": Fetch(), "partial": functools.partial(fetch)}[kind]
    fetched = {**BINDING, **PLAIN}[gate](clock)(given)
    assert inspect.iscoroutinefunction(fetched)
    assert asyncio.run(fetched(1)) == 1


def test_the_failure_of_an_awaited_object_is_counted(clock):
    class Fetch:
        async def __call__(self):
            raise OSError

    breaker = CircuitBreaker("callee", failure_threshold=1, clock=clock)
    with pytest.raises(OSError):  # noqa: PT011 - any
        asyncio.run(breaker(Fetch())())
    assert breaker.state == "open"
