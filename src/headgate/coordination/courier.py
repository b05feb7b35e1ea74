"""The courier: carries questions to the shared counters, many at a time.

Whoever asks leaves a callback and goes on. What was asked while nothing was on its way leaves at the end of
the present turn of the event loop, all together; what is asked meanwhile leaves when an answer comes back,
or a moment later. So a busy process needs few round trips, and an idle one waits for nobody.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from headgate.clock import NS_PER_SECOND
from headgate.engine.counters import RENEW
from headgate.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from headgate.engine.counters import Answer, CounterStore, Question

    Done: TypeAlias = Callable[[Answer | None], object]

__all__ = ["Courier", "CourierFigures"]

_log = logging.getLogger("headgate.coordination")
_SIZES: Final = 16


@dataclass(frozen=True, slots=True)
class CourierFigures:
    """What a courier has carried so far.

    Attributes:
        batches: sent; with a single server each is one command.
        questions: in them.
        unanswered: of those, the ones of which nothing is known.
        refused: that were not sent, because too many waited or the courier was closed.
        waiting: that wait to be sent at present.
        in_flight: batches on their way at present.
        largest: the most questions that one batch had.
        sizes: how many batches had 1, 2, 3-4, 5-8, 9-16, ... questions.
        busy_seconds: that batches were on their way, added up.
    """

    batches: int
    questions: int
    unanswered: int
    refused: int
    waiting: int
    in_flight: int
    largest: int
    sizes: tuple[int, ...]
    busy_seconds: float


@final
class Courier:
    """Carries questions to a store and brings the answers back, within one event loop.

    Answers come in any order when several batches are on their way. A callback must not block; one that
    raises is logged, and the others are called all the same.

    What is on its way is bounded so that a store that carries out 40,000 questions a second has done it all
    in a dozen milliseconds: who asks wants an answer within twenty.

    Args:
        store: that is asked.
        batches: on their way at the same time, at most.
        batch: questions in one of them, at most.
        backlog: questions that wait, at most; beyond it the answer is None at once.
        linger_ns: how long a question waits for company while others are on their way, and a message about a
            lease that nobody waits for in any case.
        timeout_ns: after which a batch is given up, with its connection, and all that wait with it.
    """

    def __init__(
        self,
        store: CounterStore,
        *,
        batches: int = 2,
        batch: int = 256,
        backlog: int = 65_536,
        linger_ns: int = 1_000_000,
        timeout_ns: int = NS_PER_SECOND,
    ) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._most_in_flight = batches
        self._batch = batch
        self._backlog = backlog  # 0 once it is closed
        self._linger = linger_ns / NS_PER_SECOND
        self._timeout = timeout_ns / NS_PER_SECOND
        self._questions: list[Question] = []
        self._dones: list[Done] = []
        self._timer: asyncio.TimerHandle | None = None
        # Whether somebody in the line has waited long enough; if not, the timer is set.
        self._hurry = False
        # Of the batches in flight, those that have not taken their questions yet.
        self._starting = 0
        self._in_flight = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._batches_sent = self._sent = self._unanswered = self._refused = self._largest = 0
        self._sizes = [0] * _SIZES
        self._busy = 0.0
        self._failure = ""

    def send(self, question: Question, done: Done) -> None:
        """Carry the question; ``done`` gets the answer, or None when nothing is known of it.

        It is called in a later turn of the loop. None comes at once when too many wait already, or when the
        courier is closed.
        """
        waiting = self._questions
        if len(waiting) >= self._backlog:
            self._refuse(done)
            return
        waiting.append(question)
        self._dones.append(done)
        if self._starting:
            return  # it goes with the batch that is about to leave
        lease = question.lease
        if question.kind != RENEW or lease is None or lease.need:
            self._hurry = True
            if not self._in_flight:
                self._start()
                return
        if len(waiting) >= self._batch and self._in_flight < self._most_in_flight:
            self._start()
        elif self._timer is None:
            self._timer = self._loop.call_later(self._linger, self._linger_over)

    def later(self, delay_ns: int, callback: Callable[[], object]) -> asyncio.TimerHandle:
        """Call back after so long, unless it is closed by then; the handle can cancel it."""
        return self._loop.call_later(max(0, delay_ns) / NS_PER_SECOND, self._ring, callback)

    @property
    def figures(self) -> CourierFigures:
        """What it has carried so far."""
        return CourierFigures(
            batches=self._batches_sent,
            questions=self._sent,
            unanswered=self._unanswered,
            refused=self._refused,
            waiting=len(self._questions),
            in_flight=self._in_flight,
            largest=self._largest,
            sizes=tuple(self._sizes),
            busy_seconds=self._busy,
        )

    async def close(self) -> None:
        """Answer everything that is open with None, and stop. The store is left as it is."""
        self._backlog = 0
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._in_flight = self._starting = 0  # of tasks that never had their turn
        self._give_up_waiting()

    def _refuse(self, done: Done) -> None:
        self._refused += 1
        if not self._loop.is_closed():
            self._loop.call_soon(_tell, done, None)

    def _linger_over(self) -> None:
        self._timer = None
        if self._questions:
            self._hurry = True
            self._start_if_free()

    def _start_if_free(self) -> None:
        if (
            self._hurry
            and self._questions
            and self._backlog
            and not self._starting
            and self._in_flight < self._most_in_flight
        ):
            self._start()

    def _start(self) -> None:
        """Send what waits, and what else is asked before the task has its turn."""
        self._in_flight += 1
        self._starting += 1
        task = self._loop.create_task(self._carry())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self) -> None:
        questions, dones = self._take()
        if not questions:  # they were given up before this had its turn
            self._in_flight -= 1
            return
        began = self._loop.time()
        answers: Sequence[Answer | None] | None = None
        try:
            answers = await self._ask(questions)
        finally:
            self._in_flight -= 1
            self._busy += self._loop.time() - began
            self._deliver(dones, answers)
            self._start_if_free()

    def _take(self) -> tuple[list[Question], list[Done]]:
        self._starting -= 1
        most = self._batch
        questions, dones = self._questions, self._dones
        if len(questions) <= most:
            self._questions, self._dones = [], []
            self._hurry = False
        else:
            self._questions, self._dones = questions[most:], dones[most:]
            questions, dones = questions[:most], dones[:most]
            self._hurry = True
            self._start_if_free()
        if questions:
            self._count(len(questions))
        return questions, dones

    def _count(self, count: int) -> None:
        self._batches_sent += 1
        self._sent += count
        self._largest = max(self._largest, count)
        self._sizes[min(_SIZES - 1, (count - 1).bit_length())] += 1

    async def _ask(self, questions: list[Question]) -> Sequence[Answer | None] | None:
        """The answers; None when they did not come."""
        try:
            async with asyncio.timeout(self._timeout):
                answers = await self._store.ask(questions)
        except StoreUnavailable as error:
            self._failed(error.message)
            return None
        except TimeoutError:
            self._failed(f"there is no answer within {self._timeout:g} s")
            self._give_up_waiting()
            return None
        except Exception:  # noqa: BLE001 - whoever waits must learn that nothing comes
            _log.exception("a defect: the store of counters failed with what it does not announce")
            return None
        if len(answers) != len(questions):
            _log.error("a defect: %d answers came to %d questions", len(answers), len(questions))
            return None
        self._failure = ""
        return answers

    def _failed(self, why: str) -> None:
        """Say why, once until it is another reason or answers have come in between."""
        if why != self._failure:
            self._failure = why
            _log.warning("the shared counters do not answer: %s", why)

    def _deliver(self, dones: list[Done], answers: Sequence[Answer | None] | None) -> None:
        if answers is None:
            answers = [None] * len(dones)
        for done, answer in zip(dones, answers, strict=True):
            if answer is None:
                self._unanswered += 1
            try:
                done(answer)
            except Exception:  # noqa: BLE001 - the others must get theirs
                _log.exception("a defect: what was to take an answer failed")

    def _give_up_waiting(self) -> None:
        """A store that hangs is not left with a line of questions that nobody waits for any more."""
        dones = self._dones
        self._questions, self._dones = [], []
        self._hurry = False
        self._refused += len(dones)
        for done in dones:
            _tell(done, None)

    def _ring(self, callback: Callable[[], object]) -> None:
        if not self._backlog:
            return
        try:
            callback()
        except Exception:  # noqa: BLE001 - likewise
            _log.exception("a defect: what was to happen later failed")


def _tell(done: Done, answer: None) -> None:
    try:
        done(answer)
    except Exception:  # noqa: BLE001 - likewise
        _log.exception("a defect: what was to take an answer failed")
