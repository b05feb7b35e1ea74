"""Questions on their way to the store, their deadlines, and whether the store is to be asked at all.

The store is UP until a question is not answered within the deadline, or cannot be answered. Then it is DOWN
at once: whoever waits is told to wait no more, and nothing is asked but a probe now and then, the first after
50 ms, then less and less often, down to every 500 ms. A probe answered within the deadline makes it UP again.

One timer serves all deadlines, because they all are equally long and so fall due in the order in which they
were set. When that timer is late, this process was busy, and the answers may be there, unread: so everybody
gets another moment before the store is blamed.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Final, final

from headgate.backpressure.backoff import Backoff
from headgate.engine.counters import PEEK, Question

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_extensions import i64

    from headgate.engine.counters import Answer
    from headgate.engine.sharing_ports import Courier

__all__ = ["Flight", "Probe", "StoreHealth", "Timed"]

_log = logging.getLogger("headgate.engine")
_FIRST_PROBE_NS: Final = 50_000_000
_LAST_PROBE_NS: Final = 500_000_000
_LATE_NS: Final = 2_000_000
_GRACE_NS: Final = 1_000_000


class Timed:
    """Something with a deadline."""

    def __init__(self) -> None:
        self.due_at: i64 = 0
        self.is_over = False

    def overdue(self, now: i64) -> None:
        """The deadline has come, and it is not over."""
        raise NotImplementedError


class Flight(Timed):
    """A question on its way.

    Attributes:
        question: what is asked.
        sent_at: when, on the node's clock; of one that was sent again, the first time.
        is_late: its deadline has passed, or whoever waited was told not to.
    """

    def __init__(self, health: StoreHealth, question: Question) -> None:
        super().__init__()
        self.health = health
        self.question = question
        self.sent_at: i64 = 0
        self.is_late = False

    def answered(self, answer: Answer, now: i64) -> None:
        """The answer has come, be it late."""
        raise NotImplementedError

    def given_up(self, now: i64) -> None:
        """Whoever waits shall wait no more; an answer may still come."""
        raise NotImplementedError

    def lost(self, now: i64) -> None:
        """No answer will come, and it is not known whether the question was carried out."""
        raise NotImplementedError

    def done(self, answer: Answer | None) -> None:
        """For the courier."""
        self.health.landed(self, answer)

    def overdue(self, now: i64) -> None:
        self.health.blame("no answer in time", self, now)


@final
class Probe(Flight):
    """A question only to find out whether the store answers."""

    def answered(self, answer: Answer, now: i64) -> None:
        if not self.is_late:
            self.health.recover(now)

    def given_up(self, now: i64) -> None:
        return

    def lost(self, now: i64) -> None:
        return


@final
class StoreHealth:
    """Sends questions, and knows whether the store answers.

    Args:
        courier: carries them.
        now_ns: the node's clock.
        deadline_ns: how long one may take.
        uniform: randomness in [0, 1), for probes not to come in step.

    Attributes:
        is_up: whether it is to be asked.
        on_up: called when it is up again.
        changed_at: when that last changed.
        settled_at: when, after it was up again, the other nodes are expected to have found out too, and to
            have charged what they admitted without it: as much later as it was away, or as a probe may be.
        downs: how often it went down.
        asked: questions sent.
        answered: in time or late.
        late: not answered in time.
        unanswered: of which nothing will be known.
        last_us: the latest moment that was heard of the store's clock.
    """

    def __init__(
        self,
        courier: Courier,
        now_ns: Callable[[], int],
        deadline_ns: i64,
        uniform: Callable[[], float],
    ) -> None:
        self.is_up = True
        self.on_up: Callable[[], object] | None = None
        self.changed_at: i64 = 0
        self.settled_at: i64 = 0
        self.downs: i64 = 0
        self.asked: i64 = 0
        self.answered: i64 = 0
        self.late: i64 = 0
        self.unanswered: i64 = 0
        self.last_us: i64 = 0
        self._heard_at: i64 = 0
        self.deadline_ns: i64 = deadline_ns
        self.next_probe_at: i64 = 0
        self._courier = courier
        self._now_ns = now_ns
        self._uniform = uniform
        self._flying: dict[Flight, None] = {}
        self._due: deque[Timed] = deque()
        self._timer_set = False
        self._timer_due: i64 = 0
        self._had_grace = False
        self._backoff = Backoff(_FIRST_PROBE_NS, 2.0, _LAST_PROBE_NS)
        self._probe_question: Question | None = None

    # Sending -------------------------------------------------------------------------------------

    def now(self) -> i64:
        """The time."""
        return self._now_ns()

    def store_now_us(self, now: i64) -> i64:
        """The store's clock, as far as it is known to have come: never ahead of what it says."""
        if self.last_us == 0:
            return 0
        return self.last_us + max(0, now - self._heard_at) // 1000

    @property
    def in_flight(self) -> int:
        """Questions on their way."""
        return len(self._flying)

    def send(self, flight: Flight, now: i64) -> None:
        """Send it. It may be lost before this returns."""
        if flight.sent_at == 0:
            flight.sent_at = now
        self._flying[flight] = None
        self.asked += 1
        self.watch(flight, now)
        self._courier.send(flight.question, flight.done)

    def watch(self, timed: Timed, now: i64) -> None:
        """Tell it when the deadline has come, counted from now."""
        timed.due_at = now + self.deadline_ns
        self._due.append(timed)
        if not self._timer_set:
            self._set_timer(timed.due_at, now)

    def later(self, delay_ns: i64, callback: Callable[[], object]) -> None:
        """Call back later."""
        self._courier.later(max(0, delay_ns), callback)

    # What comes back -----------------------------------------------------------------------------

    def landed(self, flight: Flight, answer: Answer | None) -> None:
        """A flight is over."""
        if flight.is_over:
            return
        flight.is_over = True
        self._flying.pop(flight, None)
        now = self.now()
        if answer is None:
            self.unanswered += 1
            # First the blame: what is lost must not be tried again at once.
            self.blame("cut off", flight, now)
            flight.lost(now)
            return
        self.answered += 1
        at_us: i64 = answer.at_us
        if at_us > self.last_us:
            self.last_us = at_us
            self._heard_at = now
        flight.answered(answer, now)

    def blame(self, why: str, flight: Flight, now: i64) -> None:
        """The store did not answer this one."""
        if not flight.is_over:
            self.late += 1
            flight.is_late = True
        if not self.is_up:
            flight.given_up(now)
            return
        self.is_up = False
        self.downs += 1
        self.changed_at = now
        self._probe_question = _probe_of(flight.question)
        _log.info("the shared counters cannot be reached (%s); failure modes are in force", why)
        self._backoff.reset()
        self._plan_probe(now)
        flight.given_up(now)
        for each in list(self._flying):
            each.is_late = True
            each.given_up(now)

    def recover(self, now: i64) -> None:
        """The store answers again."""
        if self.is_up:
            return
        self.is_up = True
        away_ms = (now - self.changed_at) // 1_000_000
        self.settled_at = now + min(_LAST_PROBE_NS, now - self.changed_at)
        self.changed_at = now
        _log.info("the shared counters answer again, after %d ms", away_ms)
        if self.on_up is not None:
            self.on_up()

    # Deadlines -----------------------------------------------------------------------------------

    def _set_timer(self, due: i64, now: i64) -> None:
        self._timer_set = True
        self._timer_due = due
        self._courier.later(max(0, due - now), self._ring)

    def _ring(self) -> None:
        now = self.now()
        if now - self._timer_due > _LATE_NS and not self._had_grace:
            self._had_grace = True
            self._timer_due = now + _GRACE_NS
            self._courier.later(_GRACE_NS, self._ring)
            return
        self._had_grace = False
        while len(self._due) > 0:
            timed = self._due[0]
            if timed.is_over:
                self._due.popleft()
            elif timed.due_at <= now:
                self._due.popleft()
                timed.overdue(now)
            else:
                break
        # Only now: what was asked in there falls due later than what is first in the line.
        self._timer_set = False
        if len(self._due) > 0:
            self._set_timer(self._due[0].due_at, now)

    # Probes --------------------------------------------------------------------------------------

    def _plan_probe(self, now: i64) -> None:
        wait = self._backoff.next(self._uniform())
        self.next_probe_at = now + wait
        self._courier.later(wait, _ProbeAlarm(self, self.downs).ring)

    def probe(self, outage: i64) -> None:
        """Ask whether the store is back, unless this was planned in an earlier outage."""
        if self.is_up or outage != self.downs or self._probe_question is None:
            return
        now = self.now()
        self._plan_probe(now)
        self.send(Probe(self, self._probe_question), now)


@final
class _ProbeAlarm:
    """Rings for one outage. By its number and not by the time: timers of some loops ring a little early."""

    def __init__(self, health: StoreHealth, outage: i64) -> None:
        self._health = health
        self._outage: i64 = outage

    def ring(self) -> None:
        self._health.probe(self._outage)


def _probe_of(question: Question) -> Question:
    """Ask for how one of its keys stands: so the same server is asked, by the same script."""
    return Question(PEEK, list(question.levels)[:1], 0)
