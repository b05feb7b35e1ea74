"""The courier: what travels together, when it leaves, and what becomes of it when the store fails."""

from __future__ import annotations

import asyncio
import logging

import pytest

from headgate.coordination.courier import Courier
from headgate.engine.counters import CHECK, RENEW, Answer, LeaseRequest, Question
from headgate.errors import StoreUnavailable
from headgate.lab.virtual_loop import run_virtual

MS = 1_000_000


class Store:
    """Answers each batch when it is told to, or after a fixed time."""

    def __init__(self, clock, delay_ms=None):
        self.clock = clock
        self.delay_ms = delay_ms
        self.batches = []
        self.left_at = []
        self.answers = []
        self.fail = None
        self.short = 0

    async def ask(self, questions):
        self.batches.append(list(questions))
        self.left_at.append(self.clock.now_ns())
        if self.fail is not None:
            raise self.fail
        if self.delay_ms is None:
            future = asyncio.get_running_loop().create_future()
            self.answers.append(future)
            await future
        else:
            await self.clock.sleep_async(self.delay_ms / 1000)
        return [Answer(question.cost, []) for question in questions][self.short :]

    @property
    def sizes(self):
        return [len(batch) for batch in self.batches]


def check(number=0):
    return Question(CHECK, (), number)


def renewal(need=0):
    lease = LeaseRequest("n", 1, left=0, back=0, need=need, ahead=1, demand=1.0, ttl_us=1, bound=1)
    return Question(RENEW, (), lease=lease)


def virtual(test):
    """The test in virtual time: time passes only where all wait."""

    def run():
        run_virtual(test)

    run.__name__ = test.__name__
    return run


@virtual
async def test_what_is_asked_in_one_turn_travels_together(clock):
    store, got = Store(clock, delay_ms=5), []
    courier = Courier(store)
    for number in range(100):
        courier.send(check(number), lambda answer: got.append(answer.at_us))
    assert not store.batches  # it leaves when the turn of the loop is over
    await clock.sleep_async(0.004)
    assert store.sizes == [100]
    assert store.left_at == [0]
    await clock.sleep_async(0.002)
    assert got == list(range(100))
    await courier.close()


@virtual
async def test_while_one_is_on_its_way_others_gather_for_a_moment(clock):
    store = Store(clock, delay_ms=5)
    courier = Courier(store, linger_ns=MS)
    courier.send(check(), lambda _: None)
    await clock.sleep_async(0.001)
    courier.send(check(), lambda _: None)
    await clock.sleep_async(0.0005)
    courier.send(check(), lambda _: None)
    await clock.sleep_async(0.020)
    assert store.sizes == [1, 2]
    assert store.left_at == [0, 2 * MS]
    await courier.close()


@virtual
async def test_an_answer_takes_the_line_along(clock):
    store = Store(clock)
    courier = Courier(store, linger_ns=50 * MS)
    courier.send(check(), lambda _: courier.send(check(), lambda _: None))
    await clock.sleep_async(0.001)
    courier.send(check(), lambda _: None)
    store.answers[0].set_result(None)
    await clock.sleep_async(0.001)
    assert store.sizes == [1, 2]
    assert store.left_at[1] == MS
    await courier.close()


@virtual
async def test_messages_about_leases_wait_for_company(clock):
    store = Store(clock, delay_ms=1)
    courier = Courier(store, linger_ns=MS)
    courier.send(renewal(), lambda _: None)
    await clock.sleep_async(0.0005)
    courier.send(renewal(), lambda _: None)
    await clock.sleep_async(0.010)
    assert store.sizes == [2]
    assert store.left_at == [MS]
    await courier.close()


@pytest.mark.parametrize("urgent", [check(), renewal(need=1)])
def test_who_waits_takes_lingering_messages_along(urgent):
    @virtual
    async def run(clock):
        store = Store(clock, delay_ms=1)
        courier = Courier(store, linger_ns=MS)
        courier.send(renewal(), lambda _: None)
        courier.send(urgent, lambda _: None)
        await clock.sleep_async(0.0005)
        assert store.sizes == [2]
        assert store.left_at == [0]
        await courier.close()

    run()


@virtual
async def test_batches_and_their_number_are_bounded(clock):
    store = Store(clock)
    courier = Courier(store, batches=2, batch=10, linger_ns=MS)
    got = []
    for number in range(35):
        courier.send(check(number), got.append)
    await clock.sleep_async(0.010)
    assert store.sizes == [10, 10]
    assert (courier.figures.in_flight, courier.figures.waiting) == (2, 15)
    store.answers[1].set_result(None)
    await clock.sleep_async(0.010)
    assert store.sizes == [10, 10, 10]
    for _ in range(2):
        for future in store.answers:
            if not future.done():
                future.set_result(None)
        await clock.sleep_async(0.010)
    assert store.sizes == [10, 10, 10, 5]
    assert sorted(answer.at_us for answer in got) == list(range(35))
    await courier.close()


@virtual
async def test_a_full_batch_does_not_wait_for_the_moment(clock):
    store = Store(clock)
    courier = Courier(store, batch=10, linger_ns=50 * MS)
    courier.send(check(), lambda _: None)
    await clock.sleep_async(0.001)
    for _ in range(10):
        courier.send(check(), lambda _: None)
    await clock.sleep_async(0.001)
    assert store.sizes == [1, 10]
    await courier.close()


@virtual
async def test_beyond_the_backlog_the_answer_is_none_at_once(clock):
    store, got = Store(clock), []
    courier = Courier(store, backlog=3)
    for _ in range(5):
        courier.send(check(), got.append)
    assert got == []  # nobody is called back before `send` has returned
    await clock.sleep_async(0)
    assert got == [None, None]
    assert courier.figures.refused == 2
    await courier.close()
    assert got == [None] * 5


@pytest.mark.parametrize("error", [StoreUnavailable("away"), RuntimeError("a defect")])
def test_an_error_is_an_answer_of_none(error, caplog):
    @virtual
    async def run(clock):
        store, got = Store(clock, delay_ms=1), []
        store.fail = error
        courier = Courier(store)
        courier.send(check(), got.append)
        courier.send(check(), got.append)
        await clock.sleep_async(0.001)
        assert got == [None, None]
        assert courier.figures.unanswered == 2
        store.fail = None
        courier.send(check(7), got.append)
        await clock.sleep_async(0.005)
        assert got[2].at_us == 7
        await courier.close()

    run()
    expected = logging.ERROR if isinstance(error, RuntimeError) else logging.WARNING
    assert [record.levelno for record in caplog.records] == [expected]


def test_why_nobody_answers_is_said_once(caplog):
    @virtual
    async def run(clock):
        store = Store(clock, delay_ms=1)
        courier = Courier(store, timeout_ns=10 * MS)
        for error in ("cut off", "cut off", "reset", None, "reset"):
            store.fail = None if error is None else StoreUnavailable(error)
            courier.send(check(), lambda _: None)
            await clock.sleep_async(0.005)
        store.fail, store.delay_ms = None, None
        courier.send(check(), lambda _: None)
        await clock.sleep_async(0.020)
        await courier.close()

    run()
    said = [record.message.rsplit(": ", 1)[1] for record in caplog.records]
    assert said == ["cut off", "reset", "reset", "there is no answer within 0.01 s"]


@virtual
async def test_a_store_of_several_servers_may_know_some_answers(clock):
    class Half(Store):
        async def ask(self, questions):
            answers = await super().ask(questions)
            return [None if answer.at_us % 2 else answer for answer in answers]

    got = []
    courier = Courier(Half(clock, delay_ms=1))
    for number in range(4):
        courier.send(check(number), got.append)
    await clock.sleep_async(0.005)
    assert [answer and answer.at_us for answer in got] == [0, None, 2, None]
    assert courier.figures.unanswered == 2
    await courier.close()


@virtual
async def test_answers_that_are_too_few_are_none(clock):
    store, got = Store(clock, delay_ms=1), []
    store.short = 1
    courier = Courier(store)
    courier.send(check(), got.append)
    courier.send(check(), got.append)
    await clock.sleep_async(0.005)
    assert got == [None, None]
    await courier.close()


@virtual
async def test_a_batch_that_hangs_is_given_up_with_all_that_waits(clock):
    store, got = Store(clock), []
    courier = Courier(store, batches=1, timeout_ns=100 * MS)
    courier.send(check(), got.append)
    await clock.sleep_async(0.050)
    courier.send(check(), got.append)
    await clock.sleep_async(0.049)
    assert got == []
    await clock.sleep_async(0.002)
    assert got == [None, None]
    assert store.answers[0].cancelled()
    assert store.sizes == [1]
    store.delay_ms = 1
    courier.send(check(3), got.append)
    await clock.sleep_async(0.005)
    assert got[2].at_us == 3
    await courier.close()


@pytest.mark.parametrize("answered", [True, False])
def test_a_callback_that_raises_does_not_lose_the_others_answers(answered, caplog):
    @virtual
    async def run(clock):
        store, got = Store(clock, delay_ms=1), []
        store.fail = None if answered else StoreUnavailable("away")
        courier = Courier(store)
        courier.send(check(), lambda _: 1 // 0)
        courier.send(check(), got.append)
        await clock.sleep_async(0.005)
        assert len(got) == 1
        await courier.close()

    run()
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1


@virtual
async def test_closing_answers_all_with_none_and_stops_the_timers(clock):
    store, got, rung = Store(clock), [], []
    courier = Courier(store, batches=1, batch=1)
    courier.send(check(), got.append)
    await clock.sleep_async(0.001)
    courier.send(check(), got.append)
    courier.later(5 * MS, lambda: rung.append(1))
    await courier.close()
    assert got == [None, None]
    courier.send(check(), got.append)
    await clock.sleep_async(0.010)
    assert got == [None] * 3
    assert rung == []
    assert (courier.figures.in_flight, courier.figures.waiting) == (0, 0)


@virtual
async def test_closing_before_a_batch_had_its_turn(clock):
    store, got = Store(clock), []
    courier = Courier(store)
    courier.send(check(), got.append)
    await courier.close()
    assert got == [None]
    assert store.batches == []
    assert courier.figures.in_flight == 0


def test_later_calls_back_and_can_be_cancelled(caplog):
    @virtual
    async def run(clock):
        courier, rung = Courier(Store(clock)), []
        courier.later(5 * MS, lambda: rung.append(clock.now_ns()))
        courier.later(1 * MS, lambda: 1 // 0)
        courier.later(5 * MS, lambda: rung.append(0)).cancel()
        await clock.sleep_async(0.010)
        assert rung == [5 * MS]
        await courier.close()

    run()
    assert len(caplog.records) == 1


@virtual
async def test_figures(clock):
    courier = Courier(Store(clock, delay_ms=2))
    for size in (1, 2, 5):
        for _ in range(size):
            courier.send(check(), lambda _: None)
        await clock.sleep_async(0.010)
    figures = courier.figures
    assert (figures.batches, figures.questions, figures.largest) == (3, 8, 5)
    assert figures.sizes[:4] == (1, 1, 0, 1)
    assert figures.busy_seconds == pytest.approx(0.006)
    await courier.close()
