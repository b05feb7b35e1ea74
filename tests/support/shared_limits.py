"""A node of shared limits on a table: messages wait until they are delivered, and time stands still."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from headgate.engine.counting import Counting
from headgate.engine.engine import Engine
from headgate.engine.pending import Pending
from headgate.engine.sharing import Sharing, SharingSettings
from headgate.policy import Policy
from headgate.testing import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.decision import Decision
    from headgate.engine.counters import Answer, Counter, Question

MS = 1_000_000
SECOND = 1_000_000_000
_STARTED_US = 60_000_000_000_000


class Post:
    """A courier whose messages wait to be delivered, and a store.

    Attributes:
        is_instant: everything is delivered in the next moment.
        early_ns: how much too early timers ring, as those of uvloop do.
    """

    def __init__(self, clock: ManualClock, counting: Counting | None = None) -> None:
        self.clock = clock
        self.counting = Counting() if counting is None else counting
        self.waiting: list[tuple[Question, Callable[[Answer | None], object]]] = []
        self.sent: list[Question] = []
        self.is_instant = False
        self.early_ns = 0
        self._timers: list[tuple[int, int, Callable[[], object]]] = []
        self._planned = 0

    def send(self, question: Question, done: Callable[[Answer | None], object]) -> None:
        self.sent.append(question)
        self.waiting.append((question, done))
        if self.is_instant:
            self.later(0, self.deliver)

    def later(self, delay_ns: int, callback: Callable[[], object]) -> None:
        self._planned += 1
        at = self.clock.now_ns() + max((delay_ns + 1) // 2, delay_ns - self.early_ns)
        heappush(self._timers, (at, self._planned, callback))

    def store_us(self) -> int:
        return _STARTED_US + self.clock.now_ns() // 1000

    def deliver(self) -> int:
        """The store answers all that waits; how many that was."""
        waiting, self.waiting = self.waiting, []
        for question, done in waiting:
            done(self.counting.ask(question, self.store_us()))
        return len(waiting)

    def lose(self) -> int:
        """What waits never arrives."""
        waiting, self.waiting = self.waiting, []
        for _, done in waiting:
            done(None)
        return len(waiting)

    def arrive(self) -> list[Callable[[], object]]:
        """The store carries out all that waits; the answers wait to be let in one by one."""
        waiting, self.waiting = self.waiting, []
        answered = [(done, self.counting.ask(each, self.store_us())) for each, done in waiting]
        return [lambda done=done, answer=answer: done(answer) for done, answer in answered]

    def advance(self, nanoseconds: int) -> None:
        """Time passes, and timers ring."""
        until = self.clock.now_ns() + nanoseconds
        while self._timers and self._timers[0][0] <= until:
            at, _, callback = heappop(self._timers)
            self.clock.set_ns(max(at, self.clock.now_ns()))
            callback()
        self.clock.set_ns(until)


class Bench:
    """One node. Several of them may share a clock and a store."""

    def __init__(
        self,
        *policies: dict[str, Any],
        clock: ManualClock | None = None,
        counting: Counting | None = None,
        node: str = "a",
        place: tuple[int, int] = (0, 1),
        **settings: Any,
    ) -> None:
        self.clock = clock or ManualClock(SECOND)
        self.post = Post(self.clock, counting)
        self.engine = Engine(self.clock)
        self.place = place
        settings.setdefault("consistency", "local")
        self.sharing = Sharing(
            self.post,
            SharingSettings(node, **settings),
            self.clock,
            self.engine.table,
            lambda: self.place,
            lambda: 0.0,
        )
        self.engine.share(self.sharing)
        for policy in policies:
            self.engine.set_policy(Policy.from_dict({"window": "1s", **policy}), 1)

    def check(self, cost: int = 1, **attributes: str) -> Decision:
        """The answer, with what it takes of the store's."""
        return self.settle(self.engine.begin_check(attributes or {"key": "k"}, cost))

    def begin(self, cost: int = 1, **attributes: str) -> Decision | Pending[Decision]:
        """The answer, or one on its way."""
        return self.engine.begin_check(attributes or {"key": "k"}, cost)

    def settle(self, result: Any) -> Any:
        """Wait for an answer."""
        for _ in range(10):
            if not isinstance(result, Pending):
                return result
            if result.is_settled:
                return result.value
            self.post.deliver()
        raise AssertionError("no answer came")

    def spent(self, place: int = 0, key: str = "k") -> int:
        """What the store counts against a key of the limit at this place."""
        counter = self.counters()[place]
        cell = self.post.counting._cells.get((counter.identity, key))
        if cell is None:
            return 0
        return cell.settings.algorithm.used(cell.state, self.post.store_us() * 1000)

    def counters(self) -> list[Counter]:
        return [shared.counter for shared in self.sharing._limits]

    def held(self) -> int:
        return self.sharing.status().held
