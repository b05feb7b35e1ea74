"""``@limit`` around everything that can be called."""

from __future__ import annotations

import asyncio
import functools
import inspect
import pickle
import threading
import typing
from typing import TYPE_CHECKING

import pytest

from headgate.errors import InvalidCost, InvalidInput, InvalidKey, InvalidRate, RateLimited
from headgate.gates.async_limiter import AsyncLimiter
from headgate.gates.decorator import limit
from headgate.gates.limiter import Limiter
from headgate.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_a_function_is_refused_beyond_its_limit(clock):
    @limit("2/second", key=lambda user, **_: user, clock=clock)
    def send(user: str, text: str, *, urgent: bool = False) -> str:
        return f"{user}: {text}"

    assert send("ann", "hello") == "ann: hello"
    assert send(text="again", user="ann") == "ann: again"
    with pytest.raises(RateLimited) as refused:
        send("ann", "more", urgent=True)
    assert refused.value.key == "ann"
    assert refused.value.decision.retry_after == 0.5
    assert refused.value.decision.policy.endswith("send")
    assert send("bob", "hello") == "bob: hello"
    clock.advance(0.5)
    send("ann", "now")


def test_without_a_key_all_callers_share_one_limit(clock):
    @limit("2/second", clock=clock)
    def send(user: str) -> None: ...

    send("ann")
    send("bob")
    with pytest.raises(RateLimited):
        send("eve")
    assert send.limiter.name == send.__qualname__


def test_a_constant_key(clock):
    @limit("1/second", key="mail", clock=clock)
    def send() -> None: ...

    send()
    assert send.limiter.peek("mail").allowed is False


def test_a_constant_that_was_meant_to_be_an_argument_is_refused():
    with pytest.raises(InvalidInput, match="write key=lambda user: user"):

        @limit("1/second", key="user")
        def send(user: str) -> None: ...


def test_a_key_that_is_no_string_is_refused_rather_than_shared(clock):
    @limit("1/second", key=lambda user: user, clock=clock)
    def send(user: str | None) -> None: ...

    for nobody in (None, 7):
        with pytest.raises(TypeError):  # InvalidKey is one; compiled code may raise it first
            send(nobody)
    with pytest.raises(InvalidKey):
        send("")


def test_the_cost_may_be_computed(clock):
    @limit("10/second", cost=lambda texts, **_: len(texts), clock=clock)
    def send(user: str, texts: list[str]) -> None: ...

    send("ann", ["x"] * 8)
    with pytest.raises(RateLimited):
        send("ann", ["x"] * 3)
    send("ann", ["x"] * 2)


def test_exempt_calls_spend_nothing(clock):
    @limit("1/second", key=lambda user: user, exempt_when=lambda user: user == "root", clock=clock)
    def send(user: str) -> None: ...

    for _ in range(3):
        send("root")
    send("ann")
    with pytest.raises(RateLimited):
        send("ann")


async def test_a_coroutine_function(clock):
    @limit("1/second", key=lambda user: user, clock=clock)
    async def send(user: str) -> str:
        return user

    assert inspect.iscoroutinefunction(send)
    assert await send("ann") == "ann"
    with pytest.raises(RateLimited):
        await send("ann")


async def test_a_coroutine_is_charged_when_it_runs(clock):
    @limit("1/second", clock=clock)
    async def send() -> None: ...

    send().close()
    assert send.limiter.peek(send.limiter.name).allowed


def test_waiting_for_a_turn(clock):
    @limit("2/second", wait=True, clock=clock)
    def send() -> int:
        return clock.now_ns()

    assert [send() for _ in range(4)] == [0, 0, 500_000_000, 1_000_000_000]


def test_waiting_so_long_and_no_longer(clock):
    @limit("1/second", cost=lambda cost: cost, burst=5, wait=2, clock=clock)
    def send(cost: int) -> None: ...

    send(5)
    send(2)
    with pytest.raises(RateLimited):
        send(3)
    assert clock.now_ns() == 2 * 10**9


async def test_waiting_tasks_take_turns(clock):
    @limit("1/second", wait=10.0, clock=clock)
    async def send(number: int) -> tuple[int, int]:
        return number, clock.now_ns() // 10**9

    turns = await asyncio.gather(*[send(number) for number in range(4)])
    assert turns == [(0, 0), (1, 1), (2, 2), (3, 3)]


def test_a_queueing_limit_delays_calls_without_being_asked_to_wait(clock):
    @limit("1/second", burst=3, algorithm="leaky_bucket_queue", clock=clock)
    def send() -> int:
        return clock.now_ns() // 10**9

    assert [send(), send(), send()] == [0, 1, 2]


async def test_a_queueing_limit_delays_coroutines(clock):
    @limit("1/second", burst=3, algorithm="leaky_bucket_queue", clock=clock)
    async def send() -> int:
        return clock.now_ns() // 10**9

    assert [await send(), await send()] == [0, 1]


def test_permits_are_held_while_the_function_runs(clock):
    @limit("1/minute", algorithm="concurrency", key=lambda depth: "k", clock=clock)
    def work(depth: int) -> None:
        if depth:
            work(depth - 1)

    work(0)
    work(0)
    with pytest.raises(RateLimited):
        work(1)
    work(0)


async def test_permits_are_held_while_the_coroutine_runs(clock):
    @limit("1/minute", algorithm="concurrency", clock=clock)
    async def work(started: asyncio.Event, go: asyncio.Event) -> None:
        started.set()
        await go.wait()

    started, go = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(work(started, go))
    await started.wait()
    with pytest.raises(RateLimited):
        await work(started, go)
    go.set()
    await task
    await work(started, go)


def test_a_generator_is_charged_when_it_starts(clock):
    @limit("1/second", clock=clock)
    def numbers(most: int) -> Iterator[int]:
        sent = yield from range(most)
        return sent

    assert inspect.isgeneratorfunction(numbers)
    unused = numbers(3)
    assert list(numbers(3)) == [0, 1, 2]
    with pytest.raises(RateLimited):
        next(unused)


def test_a_generator_that_waits_holds_its_permit_until_it_ends(clock):
    @limit("1/minute", algorithm="concurrency", clock=clock)
    def numbers() -> Iterator[int]:
        yield 1
        yield 2

    first = numbers()
    next(first)
    with pytest.raises(RateLimited):
        next(numbers())
    first.close()
    assert list(numbers()) == [1, 2]


async def test_an_asynchronous_generator(clock):
    @limit("1/second", clock=clock)
    async def numbers(most: int) -> AsyncIterator[int]:
        for number in range(most):
            yield number

    assert inspect.isasyncgenfunction(numbers)
    assert [number async for number in numbers(3)] == [0, 1, 2]
    with pytest.raises(RateLimited):
        await anext(numbers(3))


async def test_an_asynchronous_generator_is_driven_as_if_it_were_bare(clock):
    heard: list[object] = []

    @limit("9/second", clock=clock)
    async def echo():
        said = None
        while said != "stop":
            try:
                said = yield said
            except KeyError as error:
                said = f"caught {error}"
            except GeneratorExit:
                heard.append("closed")
                raise

    talk = echo()
    assert await anext(talk) is None
    assert await talk.asend("hello") == "hello"
    assert await talk.athrow(KeyError("k")) == "caught 'k'"
    with pytest.raises(ZeroDivisionError):
        await talk.athrow(ZeroDivisionError)
    with pytest.raises(StopAsyncIteration):
        await anext(talk)
    other = echo()
    await anext(other)
    with pytest.raises(StopAsyncIteration):
        await other.asend("stop")
    third = echo()
    await anext(third)
    await third.aclose()
    assert heard == ["closed"]


class Client:
    """Methods of every kind, decorated at either end."""

    clock = ManualClock()

    def __init__(self, name: str) -> None:
        self.name = name

    @limit("1/second", key=lambda self: self.name, clock=clock)
    def fetch(self, path: str) -> str:
        return f"{self.name}{path}"

    @limit("1/second", key=lambda path: path, clock=clock)
    @staticmethod
    def outer_static(path: str) -> str:
        return path

    @staticmethod
    @limit("1/second", key=lambda path: path, clock=clock)
    def inner_static(path: str) -> str:
        return path

    @limit("1/second", key=lambda name: name, clock=clock)
    @classmethod
    def outer_class(cls, name: str) -> str:
        return cls.__name__ + name

    @classmethod
    @limit("1/second", key=lambda name: name, clock=clock)
    def inner_class(cls, name: str) -> str:
        return cls.__name__ + name


def test_methods():
    ann, bob = Client("ann"), Client("bob")
    assert ann.fetch("/") == "ann/"
    assert bob.fetch("/") == "bob/"
    with pytest.raises(RateLimited):
        ann.fetch("/")
    assert ann.fetch.limiter.peek("bob").allowed is False


@pytest.mark.parametrize("name", ["outer_static", "inner_static", "outer_class", "inner_class"])
def test_static_and_class_methods(name: str):
    call = getattr(Client("ann"), name)
    assert call("x").endswith("x")
    with pytest.raises(RateLimited):
        getattr(Client, name)("x")


@limit("100/second", key=lambda user: user)
def documented(user: str, numbers: list[int] | None = None) -> dict[str, int]:
    """It says so."""
    return {user: len(numbers or [])}


def test_the_signature_and_the_name_are_kept():
    assert documented.__name__ == "documented"
    assert documented.__doc__ == "It says so."
    assert list(inspect.signature(documented).parameters) == ["user", "numbers"]
    hints = typing.get_type_hints(documented)
    assert hints == {"user": str, "numbers": list[int] | None, "return": dict[str, int]}


def test_a_decorated_function_can_be_pickled():
    assert pickle.loads(pickle.dumps(documented)) is documented


def test_a_call_that_lacks_an_argument_fails_as_before_and_spends_nothing():
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'user'"):
        documented()
    assert documented.limiter.peek("x", 0).remaining == 100


def test_partials_and_callable_objects(clock):
    class Sender:
        def __call__(self, user: str) -> str:
            return user

    send = functools.partial(lambda prefix, user: prefix + user, "to ")
    assert limit("1/second", clock=clock, name="partial")(send)(user="ann") == "to ann"
    assert limit("1/second", clock=clock)(Sender())("ann") == "ann"


def test_a_shared_limiter(clock):
    shared = Limiter("3/second", name="api", clock=clock)

    @limit(limiter=shared)
    def one() -> None: ...

    @limit(limiter=AsyncLimiter.of(shared), cost=2)
    def two() -> None: ...

    one()
    two()
    with pytest.raises(RateLimited, match="'api'"):
        one()
    assert one.limiter is two.limiter is shared


def test_the_rate_may_be_chosen_per_call(clock):
    plans = {"free": "1/minute", "paid": "3/minute"}

    @limit(lambda plan: plans[plan], key=lambda user: user, clock=clock)
    def search(user: str, plan: str) -> None: ...

    def passed(user: str, plan: str) -> int:
        for count in range(9):
            try:
                search(user, plan)
            except RateLimited:
                return count
        return 9

    assert passed("ann", "free") == 1
    assert passed("bob", "paid") == 3
    assert passed("ann", "paid") == 3  # a plan has its own counts
    assert passed("ann", "free") == 0
    assert search.limiter.of("1/minute").peek("ann").limit == 1


async def test_the_rate_may_be_chosen_for_callers_that_wait(clock):
    @limit(lambda rate: rate, key="k", wait=True, clock=clock)
    async def search(rate: str) -> int:
        return clock.now_ns() // 10**9

    assert [await search("1/second") for _ in range(3)] == [0, 1, 2]


def test_rates_that_are_computed_rather_than_chosen_come_to_an_end(clock):
    @limit(lambda number: f"{number}/minute", key="k", clock=clock)
    def search(number: int) -> None: ...

    for number in range(1, 257):
        search(number)
    with pytest.raises(InvalidRate, match="at most 256 different rates"):
        search(257)


def test_a_disabled_limit(clock):
    @limit("1/hour", clock=clock, enabled=False)
    def send() -> None: ...

    for _ in range(3):
        send()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs a rate"),
        ({"rate": lambda: None}, "needs a rate"),
        ({"rate": lambda nobody: "1/s", "key": "k"}, "rate asks for 'nobody'"),
        ({"rate": "1/s", "limiter": Limiter("1/s")}, "either the limiter or"),
        ({"burst": 3, "limiter": Limiter("1/s")}, "either the limiter or"),
        ({"rate": "1/s", "wait": -1}, "timeout must be"),
        ({"rate": "1/s", "wait": float("nan")}, "timeout must be"),
        ({"rate": "1/s", "key": lambda nobody: ""}, "asks for 'nobody'"),
        ({"rate": "1/s", "cost": lambda nobody: 1}, "cost asks for 'nobody'"),
        ({"rate": "1/s", "exempt_when": lambda nobody: 1}, "exempt_when asks for 'nobody'"),
        ({"rate": "1/s", "cost": -1}, "cost must be"),
        ({"rate": "1/s", "key": ""}, "key must not be empty"),
        ({"rate": "gibberish"}, "gibberish"),
    ],
)
def test_what_makes_no_sense_is_refused_when_decorating(arguments, message):
    with pytest.raises(InvalidInput, match=message):

        @limit(**arguments)
        def send(user: str) -> None: ...


def test_only_functions_are_decorated():
    with pytest.raises(InvalidInput, match="__init__"):
        limit("1/s")(Client)
    with pytest.raises(InvalidInput, match="decorates functions"):
        limit("1/s")(7)


def test_a_computed_cost_is_checked_on_each_call(clock):
    @limit("10/second", cost=lambda cost: cost, clock=clock)
    def send(cost: object) -> None: ...

    with pytest.raises(InvalidCost):
        send(-1)
    with pytest.raises(TypeError):
        send(1.5)


def test_an_exception_of_the_function_passes_and_is_charged(clock):
    @limit("1/second", clock=clock)
    def fail() -> None:
        raise KeyError

    with pytest.raises(KeyError):
        fail()
    with pytest.raises(RateLimited):
        fail()


def test_threads_never_get_more_than_there_is(clock):
    passed = []

    @limit("100/second", clock=clock)
    def send() -> None:
        passed.append(1)

    def work() -> None:
        for _ in range(50):
            try:
                send()
            except RateLimited:
                return

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passed) == 100
