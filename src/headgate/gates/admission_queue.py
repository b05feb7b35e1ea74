"""A queue before work that has so many seats: who waits, in which order, for how long at most (A10, B6, C7).

Threads and tasks wait in it alike. Being seated is a state and not a message: whoever changes the state wakes
whom it concerns, and those look for themselves. One that is cancelled, interrupted or late leaves from
wherever it is, and takes its seats along if it had been given some in that very moment; so no seat and no
wake-up gets lost.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from random import random
from typing import TYPE_CHECKING, Final, NoReturn, SupportsFloat, SupportsIndex, TypeVar, final

from headgate.backpressure.seating import Seating
from headgate.backpressure.waiting_order import Candidate, Standing
from headgate.clock import NS_PER_SECOND, SystemClock
from headgate.decision import Decision
from headgate.errors import Evicted, InvalidInput, LineFull, QueuedTooLong
from headgate.gates.admission_settings import (
    MAX_SEATS,
    MAX_WAITING,
    group_of,
    listed_classes,
    order_for,
    valid_flow,
    valid_patience,
    valid_seats_wanted,
)
from headgate.gates.lines import TaskWaiter, ThreadWaiter, Waiter
from headgate.gates.numbers import valid_call
from headgate.inputs import valid_count, valid_key
from headgate.priority import tier_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from headgate.backpressure.service_classes import ServiceClass
    from headgate.clock import Clock
    from headgate.inputs import Text

__all__ = ["Admission", "AdmissionQueue", "AdmissionStats"]

_log: Final = logging.getLogger("headgate.gates")
_LEAST_RETRY_NS: Final = NS_PER_SECOND // 10
_LEAST_PAUSE_NS: Final = 1_000
_W = TypeVar("_W", bound=Waiter)


@final
class AdmissionStats:
    """What has happened in an `AdmissionQueue`; the tuples count by tier.

    Attributes:
        seats: how many there are.
        taken: how many are held.
        waiting: how many callers wait.
        admitted: were given their seats.
        refused: found no room to wait.
        late: were refused at once, since their class could not serve them in time.
        evicted: had to give way to others while they waited.
        expired: waited as long as they could.
    """

    __slots__ = (
        "admitted",
        "evicted",
        "expired",
        "late",
        "refused",
        "seats",
        "taken",
        "waiting",
    )

    def __init__(self, seating: Seating) -> None:
        outcomes = seating.outcomes
        self.seats = seating.seats
        self.taken = seating.taken
        self.waiting = seating.waiting
        self.admitted = tuple(outcomes[Standing.SEATED])
        self.refused = tuple(outcomes[Standing.REFUSED])
        self.late = tuple(outcomes[Standing.LATE])
        self.evicted = tuple(outcomes[Standing.EVICTED])
        self.expired = tuple(outcomes[Standing.EXPIRED])


@final
class AdmissionQueue:
    """Lets so much work run at a time, and has the rest wait in a good order.

    >>> queue = AdmissionQueue(seats=16)
    >>> with queue.admit(priority="high", flow="tenant-7"):
    ...     pass  # work; at most 16 are in here

    ``async with`` is the same for tasks. Thread-safe; no lock is held while anybody works.

    The discipline is who goes next, and who gives way when ``max_waiting`` wait already:

    * ``"priority"``: by tier; within a tier flows share fairly; who waits for long rises by one tier; each
      tier that waits has 5 % of the seats. The least important gives way.
    * ``"fair"``: flows share fairly by weight. The flow furthest ahead of its share gives way.
    * ``"codel"``: one line that is kept short in time: once it has not been empty for ``max_wait``, the
      newest goes first and newcomers wait for ``target_delay`` only.
    * ``"classes"``: by the share and the target latency of the ``classes``; who could not be served within
      the target of its class is refused at once.

    Args:
        seats: how many may be taken at a time; `seats` can be set later.
        max_waiting: how many callers may wait.
        discipline: see above; ``"classes"`` when there are some, or else ``"priority"``, when left out.
        max_wait: seconds that a caller may wait; when left out 1 s, and 0.1 s with ``"codel"``. Classes
            have their targets instead.
        target_delay: seconds, for ``"codel"``; more than the time between two seats that come free.
        weights: shares of flows against each other; 1 for those that are not named.
        classes: service classes.
        observe_delay: told how many seconds each caller waited, such as `LoadMonitor.observe_queue_delay`.
        name: stands in refusals as the policy.
        clock: gives the time; the system's when left out.

    Raises:
        InvalidInput: a setting is none, or does not go with the discipline.
    """

    def __init__(  # noqa: PLR0913 - every setting has a place here
        self,
        seats: SupportsIndex,
        *,
        max_waiting: SupportsIndex = 1_000,
        discipline: Text | None = None,
        max_wait: SupportsFloat | None = None,
        target_delay: SupportsFloat = 0.02,
        weights: Mapping[str, float] | None = None,
        classes: Sequence[ServiceClass] = (),
        observe_delay: Callable[[float], object] | None = None,
        name: Text = "queue",
        clock: Clock | None = None,
    ) -> None:
        number = valid_count("seats", seats, MAX_SEATS)
        places = valid_count("max_waiting", max_waiting, MAX_WAITING)
        self.name = valid_key(name)
        self.clock: Clock = SystemClock() if clock is None else clock
        self.classes: tuple[ServiceClass, ...] = listed_classes(classes)
        order = order_for(
            discipline,
            seats=number,
            max_waiting=places,
            max_wait=max_wait,
            target_delay=target_delay,
            weights=weights,
            classes=self.classes,
        )
        self._seating = Seating(order, number, places)
        self._observe = (
            None if observe_delay is None else valid_call("observe_delay", observe_delay)
        )
        self._now = self.clock.now_ns
        self._lock = threading.RLock()
        self._is_busy = False
        self._leaving: deque[Candidate] = deque()

    def admit(
        self,
        *,
        priority: object = "normal",
        flow: Text = "",
        cost: SupportsIndex = 1,
        deadline: SupportsFloat | None = None,
        service_class: Text = "",
    ) -> Admission:
        """Ask to be let in: ``with queue.admit(): ...`` or ``async with queue.admit(): ...``.

        Args:
            priority: a name or a tier of `headgate.priority`.
            flow: whose work it is: a tenant, a user.
            cost: the seats that it takes; one that wants more than there are takes all of them.
            deadline: seconds within which it must have them; 0 never waits. The queue may allow less.
            service_class: its class; the last one when left out.

        Raises:
            InvalidInput: an argument is none.
            LineFull: on entering: too many wait, and none of them gives way.
            QueuedTooLong: on entering: no seats came free in time, or none would.
            Evicted: on entering: gave way to a more urgent caller while it waited.
        """
        candidate = Candidate(
            tier=tier_of(priority),
            flow=valid_flow(flow),
            cost=valid_seats_wanted(cost),
            patience_ns=valid_patience(deadline),
            group=group_of(self.classes, service_class),
        )
        return Admission(self, candidate)

    @property
    def seats(self) -> int:
        """How many there are; may be set at any time, and takes nobody's seat away."""
        return self._seating.seats

    @seats.setter
    def seats(self, seats: SupportsIndex) -> None:
        number = valid_count("seats", seats, MAX_SEATS)
        self._change(lambda now: self._seating.resize(number, now))

    @property
    def in_flight(self) -> int:
        """How many seats are taken."""
        return self._seating.taken

    @property
    def waiting(self) -> int:
        """How many callers wait."""
        return self._seating.waiting

    def stats(self) -> AdmissionStats:
        """How it stands, and what has happened so far."""
        with self._lock:
            return AdmissionStats(self._seating)

    def arrive(self, candidate: Candidate, kind: type[_W]) -> _W | None:
        """A caller asks for its seats; for `Admission`. Returns what it waits on, if it has to."""
        with self._lock:
            # A signal handler must not wait for what it interrupts.
            if not self._change(lambda now: self._seating.arrive(candidate, now)):
                candidate.standing = Standing.REFUSED
            if candidate.standing is not Standing.WAITING:
                return None
            waiter = kind(candidate.cost)
            candidate.owner = waiter
            return waiter

    def look(self, candidate: Candidate) -> float:
        """The seconds that a caller should go on waiting: 0 when it is seated; for `Admission`.

        Raises:
            LineFull: see `admit`.
            QueuedTooLong: likewise.
            Evicted: likewise.
        """
        if candidate.standing is Standing.WAITING:
            self._change(self._seating.look)
        with self._lock:
            standing = candidate.standing
            if standing is Standing.WAITING:
                # Never 0, which would mean that it is seated: time may have gone on since the change. And
                # not so little that an event loop takes it for nothing and comes back at once.
                left_ns = self._seating.patience_left(candidate, self._now())
                return max(_LEAST_PAUSE_NS, left_ns) / NS_PER_SECOND
            waited = self._seating.waited(candidate)
        if standing is Standing.SEATED or standing is Standing.EXPIRED:
            self._tell(waited / NS_PER_SECOND)
        if standing is not Standing.SEATED:
            self._refuse(candidate, standing)
        return 0.0

    def leave(self, candidate: Candidate) -> None:
        """A caller is done or gives up, wherever it stands; for `Admission`."""
        self._leaving.append(candidate)
        self._change(None)

    def waited(self, candidate: Candidate) -> float:
        """The seconds that a caller waited; for `Admission`."""
        with self._lock:
            return self._seating.waited(candidate) / NS_PER_SECOND

    def _change(self, change: Callable[[int], list[Candidate]] | None) -> bool:
        """Change the seating and wake whom it concerns. False when this interrupts such a change.

        A finalizer or a signal handler may come here in the middle of a change in the same thread. Those who
        leave then are put down, and the change that was interrupted sees to them.
        """
        with self._lock:
            if self._is_busy:
                return False
            while True:
                self._is_busy = True
                try:
                    if change is not None:
                        self._wake(change(self._now()))
                        change = None
                    while self._leaving:
                        leaver = self._leaving.popleft()
                        self._wake(self._seating.leave(leaver, self._now()))
                finally:
                    self._is_busy = False
                if not self._leaving:
                    return True

    def _wake(self, changed: list[Candidate]) -> None:
        for candidate in changed:  # which grows while it is gone through
            waiter = candidate.owner
            if not isinstance(waiter, Waiter):
                continue
            if candidate.standing is Standing.SEATED and waiter.is_gone():
                # Its event loop was closed under it: nobody would ever give these seats back.
                changed += self._seating.leave(candidate, self._now())
            else:
                waiter.wake()

    def _tell(self, seconds: float) -> None:
        if self._observe is not None:
            try:
                self._observe(seconds)
            except Exception:  # noqa: BLE001 - an observer cannot break what it observes
                self._observe = None
                _log.exception("observe_delay of %r raised, and is not called again", self.name)

    def _refuse(self, candidate: Candidate, standing: Standing) -> NoReturn:
        seating = self._seating
        drained_ns = max(_LEAST_RETRY_NS, int(seating.work / seating.seats))
        # Spread over one to two of these, or all that were refused come back together.
        retry_ns = drained_ns + int(drained_ns * random())
        free = max(0, seating.seats - seating.taken)
        decision = Decision(False, seating.seats, free, retry_ns, drained_ns, 0, self.name, 0)
        if standing is Standing.REFUSED:
            raise LineFull(decision, candidate.flow)
        if standing is Standing.EVICTED:
            raise Evicted(decision, candidate.flow)
        raise QueuedTooLong(decision, candidate.flow)


@final
class Admission:
    """``with queue.admit(): ...`` waits here, and holds its seats until the end of the block."""

    __slots__ = ("_candidate", "_queue")

    def __init__(self, queue: AdmissionQueue, candidate: Candidate) -> None:
        self._queue = queue
        self._candidate = candidate

    @property
    def waited(self) -> float:
        """The seconds that it has waited."""
        return self._queue.waited(self._candidate)

    def release(self) -> None:
        """Give the seats back before the end of the block; again is harmless."""
        self._queue.leave(self._candidate)

    def __enter__(self) -> Admission:
        self._require_new()
        try:
            waiter = self._queue.arrive(self._candidate, ThreadWaiter)
            while (seconds := self._queue.look(self._candidate)) > 0.0 and waiter is not None:
                waiter.pause(self._queue.clock, seconds)
        except BaseException:
            self.release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    async def __aenter__(self) -> Admission:
        self._require_new()
        try:
            waiter = self._queue.arrive(self._candidate, TaskWaiter)
            while (seconds := self._queue.look(self._candidate)) > 0.0 and waiter is not None:
                await waiter.pause(self._queue.clock, seconds)
        except BaseException:
            self.release()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _require_new(self) -> None:
        if self._candidate.standing is not Standing.NEW:
            raise InvalidInput("an admission is entered once; call admit() for each piece of work")
