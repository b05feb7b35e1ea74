"""One key of a shared counter, drawn ahead of need, for gates that answer at once and wait for nobody (D6).

Iterations are drawn from the store in batches, before they are needed, and spent here. A batch that is not
spent within ``hold_ns`` lapses and is given back. So whatever is spent was debited at most ``hold_ns``
earlier::

    admitted by all nodes in any window  <=  debited in window + hold_ns  <=  limit of the counter

which makes a limit exact when the counter's window is the limit's and ``hold_ns`` more.

While the store does not answer, what was drawn is spent, and then this node's share of the limit: all that it
admitted counts against that, what it drew before included; and until the window that the store told of last
is over, no more than this node's share of what was left in it. What was admitted meanwhile is charged when
the store is back; nothing is drawn for half a second more, until the others have been charged as well. Nodes
know of each other by their leases on the key, which idle nodes keep up, too.

No clock, no thread and no input or output: `headgate.gates.shared_allowance` has those.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Final, final

from headgate.backpressure.iteration_window import IterationWindow
from headgate.clock import NS_PER_MS, NS_PER_SECOND
from headgate.engine.batches import Batches
from headgate.engine.counters import CHECK, PAY, REFUND, RENEW, LeaseRequest, Question

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headgate.engine.counters import Answer, Counter

__all__ = ["FIRST_PATIENCE", "Allowance", "AllowanceTerms"]

_HEARTBEAT_NS: Final = NS_PER_SECOND
_LEASE_US: Final = 3_000_000
_KNOWN_NS: Final = 10 * NS_PER_SECOND
_HORIZON_NS: Final = 100 * NS_PER_MS
_MEASURED_NS: Final = 20 * NS_PER_MS
_PAUSE_NS: Final = NS_PER_MS
_FIRST_RETRY_NS: Final = 50 * NS_PER_MS
_LONGEST_RETRY_NS: Final = 500 * NS_PER_MS
FIRST_PATIENCE: Final = 20
"""The first answer may take so many times as long as others: a connection is opened, a script sent."""


@final
@dataclass(frozen=True, slots=True)
class AllowanceTerms:
    """What is promised.

    Attributes:
        limit: iterations of all nodes per window.
        window_ns: its length.
        hold_ns: how long a batch may be spent.
        bound: the most that all nodes may hold unspent.
        deadline_ns: after which the store counts as lost.
        least_nodes: the number of nodes that is assumed at least when the store is lost.
        memory_ns: for how long something is kept ready for who asked: the longest pause of a loop.
    """

    limit: int
    window_ns: int
    hold_ns: int
    bound: int
    deadline_ns: int
    least_nodes: int = 1
    memory_ns: int = 2 * NS_PER_SECOND


@final
class Allowance:
    """What one node holds of it. Not thread-safe: whoever shares one holds a lock.

    Args:
        counter: in the store.
        key: within it.
        node: who draws; a process that starts anew is another node.
        terms: what is promised.
        now: nanoseconds.

    Attributes:
        lost: whether the store failed when it was asked last.
        owed: admitted while it was, and not yet charged.
    """

    def __init__(
        self, counter: Counter, key: str, node: str, terms: AllowanceTerms, now: int
    ) -> None:
        self._level = (counter, key)
        self._node = node
        self._terms = terms
        self._window = IterationWindow(terms.limit, terms.window_ns)
        self._stock = Batches(terms.hold_ns)
        self._names: dict[str, int] = {}
        self._sent: list[Question] = []
        self._seq = 0
        self._wanted = 0
        self._asked = 0
        self._asked_ns = now
        self._unmeasured = 0
        self._demand = 0.0
        self._measured_ns = now
        self._usual = 1
        self._asking_ns: int | None = None
        self._late_ns = now + FIRST_PATIENCE * terms.deadline_ns
        self._heard_ns: int | None = None
        self._remaining = terms.limit
        self._lent = 0
        self._again_ns = now
        self._beat_ns = now
        self._retry_ns = _FIRST_RETRY_NS
        self._settled_ns = now
        self.lost = False
        self.owed = 0

    @property
    def left(self) -> int:
        """Drawn and not spent; brought up to date by each call that is given the time."""
        return self._stock.left

    # The gate's side ------------------------------------------------------------------------------

    def take(self, count: int, now: int) -> bool:
        """Take so many iterations, 1 to the limit, if all of them are there; otherwise take nothing."""
        self._stock.lapse(now)
        self._ask(count, now)
        if count <= self._stock.left:
            if not self._window.take(count, now):
                return False
            self._stock.spend(count)
            if count >= self._wanted:
                self._wanted = 0
            return True
        if self.is_lost(now) and count <= self._spare(now):
            self._window.take(count, now)
            self.owed += count
            self._lent += count
            return True
        self._wanted = max(self._wanted, count)
        return False

    def room(self, now: int) -> int:
        """How many could be taken at once; takes nothing. That somebody asked brings the next ones."""
        self._stock.lapse(now)
        found = self._stock.left
        if self.is_lost(now):
            found = max(found, self._spare(now))
        found = min(found, self._window.room(now))
        if found <= 0:
            self._ask(0, now)
            self._wanted = max(self._wanted, 1)
        return max(0, found)

    def wait(self, count: int, now: int) -> int:
        """Nanoseconds after which asking for so many is worth it again; 0 when they are there."""
        self._stock.lapse(now)
        if count <= self._stock.left:
            return self._window.wait(count, now)
        if self.is_lost(now):
            return self._wait_alone(count, now)
        return max(_PAUSE_NS, min(self._again_ns - now, self._terms.window_ns))

    def utilization(self, now: int) -> float:
        """The share of the limit that is taken, 0 to 1: of all nodes as last heard, of this one at least."""
        taken = self._used(now)
        heard = self._heard_ns
        if heard is not None and 0 <= now - heard < self._terms.window_ns and not self.lost:
            taken = max(taken, self._terms.limit - self._remaining - self._stock.left)
        return min(1.0, taken / self._terms.limit)

    def is_lost(self, now: int) -> bool:
        """Whether the store failed, or ought to have answered or been asked by now."""
        if self.lost or self._is_settling(now):
            return True
        if now - self._beat_ns > FIRST_PATIENCE * self._terms.deadline_ns:
            return True  # whoever should ask is gone: a thread that did not live on in a fork
        begun = self._heard_ns is None or self._asking_ns is not None
        return begun and now > self._late_ns

    # The side of who asks the store -----------------------------------------------------------------

    def due(self, now: int) -> int | None:
        """Nanoseconds until `draw` has something to ask; None while an answer is awaited."""
        if self._asking_ns is not None:
            return None
        if self.lost:
            return max(0, self._again_ns - now)
        self._stock.lapse(now)
        when = self._beat_ns
        if self._stock.lapsed or self.owed or self._is_low(now):
            when = min(when, self._again_ns)
        if self._stock.left > 0:
            when = min(when, self._stock.lapses_ns)
        return max(0, when - now)

    def is_wanting(self, now: int) -> bool:
        """Whether there is something to ask at once."""
        if self._asking_ns is not None or self.lost or now < self._again_ns:
            return False
        return self._is_low(now) or self.owed > 0

    def draw(self, now: int) -> list[Question]:
        """What to ask; then `heard` or `failed` has to be told."""
        self._stock.lapse(now)
        self._measure(now)
        levels = [self._level]
        questions = [
            Question(REFUND, levels, batch.count, granted_at_us=batch.at_us)
            for batch in self._stock.lapsed
        ]
        self._stock.lapsed.clear()
        if self.owed:
            # It may have been charged by a question that went unanswered: twice is the safe side.
            questions.append(Question(PAY, levels, min(self.owed, self._terms.limit)))
        if self.lost or not self._may_draw(now):
            self._wanted = 0
        if self._wanted > max(1, self._stock.left):  # all of them or none
            questions.append(Question(CHECK, levels, self._wanted - self._stock.left))
        questions.append(Question(RENEW, levels, lease=self._request(now)))
        self._sent = questions
        self._asking_ns = now
        if self._heard_ns is not None:
            self._late_ns = now + self._terms.deadline_ns
        self._beat_ns = now + _HEARTBEAT_NS
        return questions

    def heard(self, answers: Iterable[Answer | None], now: int) -> bool:
        """The answers came, in the order of the questions; whether the store had been lost before.

        What went unanswered (None), or could not be carried out, granted nothing.
        """
        sent_ns = now if self._asking_ns is None else self._asking_ns
        back, self.lost = self.lost, False
        self._retry_ns = _FIRST_RETRY_NS
        if back:
            self._settled_ns = now + _LONGEST_RETRY_NS
        self._again_ns = now + (_FIRST_RETRY_NS if self._is_settling(now) else _PAUSE_NS)
        for question, answer in zip(self._sent, answers, strict=True):
            if answer is None or answer.failed:
                continue
            standing = answer.standings[0]
            self._remaining = standing.remaining
            if question.kind == CHECK:
                if standing.wait_ns == 0:
                    self._stock.add(question.cost, answer.at_us, sent_ns)
                else:
                    self._leave_alone(standing.wait_ns, now)
            elif question.kind == RENEW:
                self._granted(question, answer, sent_ns, now)
            elif question.kind == PAY:
                self.owed -= min(self.owed, question.cost)
        self._stock.lapse(now)
        self._usual = max(1, self._stock.left)
        self._heard_ns = now
        self._lent = 0
        self._asking_ns = None
        return back

    def failed(self, now: int) -> bool:
        """There was no answer; whether that is news. What it might have granted counts as spent."""
        first, self.lost = not self.lost, True
        self._again_ns = now + self._retry_ns
        self._retry_ns = min(2 * self._retry_ns, _LONGEST_RETRY_NS)
        self._asking_ns = None
        return first

    def met(self, names: Iterable[str], now: int) -> None:
        """These nodes have leases on the key now."""
        for name in names:
            self._names[name] = now
        gone = [name for name, at in self._names.items() if not 0 <= now - at < _KNOWN_NS]
        if not self.lost:
            for name in gone:
                del self._names[name]

    def give_back(self, now: int) -> list[Question]:
        """The end: what to ask so that nothing stays with this node."""
        self._stock.lapse_all()
        self._wanted = 0
        self._asked_ns = now - self._terms.memory_ns
        return self.draw(now)

    # Inside -----------------------------------------------------------------------------------------

    def _ask(self, count: int, now: int) -> None:
        self._asked += count
        self._unmeasured += count
        self._asked_ns = now

    def _request(self, now: int) -> LeaseRequest:
        terms = self._terms
        self._seq += 1
        # One is asked for as if somebody waited: near the limit others may hold all that may be held.
        need = 1 if self._wanted == 1 and self._stock.left == 0 else 0
        target = min(max(1, ceil(self._demand * _horizon(terms) / NS_PER_SECOND)), terms.limit)
        ahead = max(0, target - self._stock.left - need) if self._may_draw(now) else 0
        self._asked = 0
        return LeaseRequest(
            self._node,
            self._seq,
            left=self._stock.left,
            back=0,
            need=need,
            ahead=ahead,
            demand=self._demand,
            ttl_us=_LEASE_US,
            bound=terms.bound,
        )

    def _granted(self, question: Question, answer: Answer, sent_ns: int, now: int) -> None:
        request = question.lease
        if answer.granted > 0:
            self._stock.add(answer.granted, answer.at_us, sent_ns)
        if request is not None and answer.granted < request.need + request.ahead:
            self._leave_alone(answer.again_ns, now)

    def _leave_alone(self, wait_ns: int, now: int) -> None:
        """There is nothing to be had for so long; or for less, should others give something back."""
        self._again_ns = max(self._again_ns, now + min(wait_ns, _HEARTBEAT_NS))

    def _measure(self, now: int) -> None:
        elapsed = now - self._measured_ns
        if 0 <= elapsed < _MEASURED_NS:
            return
        rate = self._unmeasured * NS_PER_SECOND / elapsed if elapsed > 0 else 0.0
        self._demand = 0.5 * (self._demand + rate)
        self._unmeasured = 0
        self._measured_ns = now

    def _is_recent(self, now: int) -> bool:
        """Whether somebody asked who may come again; at first somebody may."""
        return 0 <= now - self._asked_ns < self._terms.memory_ns

    def _is_settling(self, now: int) -> bool:
        """Whether the store is back, and other nodes may not have been charged yet."""
        return 0 < self._settled_ns - now <= _LONGEST_RETRY_NS

    def _may_draw(self, now: int) -> bool:
        return not self.lost and not self._is_settling(now) and self._is_recent(now)

    def _is_low(self, now: int) -> bool:
        if not self._may_draw(now):
            return False
        return self._stock.left < max(1, self._wanted) or (
            self._asked > 0 and 2 * self._stock.left <= self._usual
        )

    def _used(self, now: int) -> int:
        return self._terms.limit - self._window.room(now)

    def _share_of(self, whole: int) -> int:
        """This node's part, as far as it knows the others; the parts add up to the whole."""
        names = sorted({self._node, *self._names})
        rank, nodes = names.index(self._node), max(len(names), self._terms.least_nodes)
        return whole * (rank + 1) // nodes - whole * rank // nodes

    def _spare(self, now: int) -> int:
        """What this node may admit without the store."""
        spare = self._share_of(self._terms.limit) - self._used(now)
        if self._told_for(now) > 0:
            spare = min(spare, self._share_of(self._remaining) - self._lent)
        return spare

    def _told_for(self, now: int) -> int:
        """How long it still matters what the store told last; 0 when it does not."""
        heard, lasts = self._heard_ns, self._terms.window_ns + self._terms.hold_ns
        return 0 if heard is None or not 0 <= now - heard < lasts else heard + lasts - now

    def _wait_alone(self, count: int, now: int) -> int:
        kept_from_us = self._terms.limit - self._share_of(self._terms.limit)
        if count + kept_from_us > self._terms.limit:
            return max(_PAUSE_NS, self._again_ns - now)
        wait: int = self._window.wait(count + kept_from_us, now)
        if count > self._share_of(self._remaining) - self._lent:
            wait = max(wait, self._told_for(now))
        return wait


def _horizon(terms: AllowanceTerms) -> int:
    return min(terms.hold_ns, _HORIZON_NS)
