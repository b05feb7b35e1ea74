"""What this node owes the store, and the store this node: of the time in which they were cut off.

What was admitted by a failure mode is *owed*, and charged when the store is back, as far as it has it. What
was to be given back meanwhile waits too. A charge of which it is not known whether it was carried out is made
again, a refund is not: whatever is lost, the limit holds.

Both are bounded. What finds no room is counted, and given up.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, final

from headgate.engine.counters import PAY, REFUND, SETTLE, Question
from headgate.engine.store_health import Flight

if TYPE_CHECKING:
    from mypy_extensions import i64

    from headgate.engine.counters import Answer, Counter
    from headgate.engine.shared_limit import SharedLimit
    from headgate.engine.store_health import StoreHealth

__all__ = ["Debts"]

_AT_ONCE: Final = 256


@final
class _Debt:
    def __init__(self, shared: SharedLimit, key: str) -> None:
        self.shared = shared
        self.key = key
        self.amount: i64 = 0


@final
class _PayFlight(Flight):
    def __init__(self, debts: Debts, debt: _Debt) -> None:
        levels = [(debt.shared.counter, debt.key)]
        super().__init__(debts.health, Question(PAY, levels, debt.amount))
        self._debts = debts
        self._debt = debt

    def answered(self, answer: Answer, now: i64) -> None:
        self._debts.paid += self._debt.amount
        self._debts.landed(now)

    def given_up(self, now: i64) -> None:
        return

    def lost(self, now: i64) -> None:
        debt = self._debt
        self._debts.owe(debt.shared, debt.key, debt.amount)
        self._debts.landed(now)


@final
class _ReturnFlight(Flight):
    def __init__(self, debts: Debts, question: Question) -> None:
        super().__init__(debts.health, question)
        self._debts = debts

    def answered(self, answer: Answer, now: i64) -> None:
        self._debts.landed(now)

    def given_up(self, now: i64) -> None:
        return

    def lost(self, now: i64) -> None:
        if self.question.kind == SETTLE:
            self._debts.give_back(self.question, now)  # to settle twice does no harm
        else:
            self._debts.unknown += self.question.cost
        self._debts.landed(now)


@final
class Debts:
    """What is to be settled with the store.

    Args:
        health: by which it is asked.
        most: keys that owe, and refunds that wait.

    Attributes:
        forgone: tokens that were admitted and never charged, for want of room.
        dropped: refunds that were never sent, for want of room.
        unknown: tokens given back of which it is not known whether the store noticed.
        paid: tokens charged later.
    """

    def __init__(self, health: StoreHealth, most: i64) -> None:
        self.health = health
        self.forgone: i64 = 0
        self.dropped: i64 = 0
        self.unknown: i64 = 0
        self.paid: i64 = 0
        self._most: i64 = most
        self._owed: dict[tuple[str, str], _Debt] = {}
        self._returns: deque[Question] = deque()
        self._in_flight: i64 = 0

    @property
    def keys_owing(self) -> int:
        """Keys that owe something."""
        return len(self._owed)

    @property
    def waiting(self) -> int:
        """Refunds that wait."""
        return len(self._returns)

    @property
    def owed(self) -> int:
        """Tokens that are owed in all."""
        return sum([debt.amount for debt in self._owed.values()])

    def owe(self, shared: SharedLimit, key: str, amount: i64) -> None:
        """Charge this later."""
        place = (shared.counter.identity, key)
        debt = self._owed.get(place)
        if debt is None:
            if len(self._owed) >= self._most:
                self.forgone += amount
                return
            debt = _Debt(shared, key)
            self._owed[place] = debt
        debt.amount += amount

    def forgive(self, counter: Counter, key: str, amount: i64) -> i64:
        """Owe less, because the store has charged it already or it was given back; how much less."""
        place = (counter.identity, key)
        debt = self._owed.get(place)
        if debt is None:
            return 0
        less: i64 = min(debt.amount, amount)
        debt.amount -= less
        if debt.amount == 0:
            del self._owed[place]
        return less

    def give_back(self, question: Question, now: i64) -> None:
        """Send a refund or a settlement, now or when the store is back."""
        if self.health.is_up and len(self._returns) == 0:
            self._in_flight += 1
            self.health.send(_ReturnFlight(self, question), now)
        elif len(self._returns) >= self._most:
            self.dropped += 1
        else:
            self._returns.append(question)

    def refund(self, counter: Counter, key: str, amount: i64, at_us: i64, now: i64) -> None:
        """Give back what the store charged at a moment, or owe less."""
        left = amount - self.forgive(counter, key, amount)
        if left > 0:
            self.return_now(counter, key, left, at_us, now)

    def return_now(self, counter: Counter, key: str, amount: i64, at_us: i64, now: i64) -> None:
        """Give back what the store charged at a moment."""
        self.give_back(Question(REFUND, [(counter, key)], amount, at_us), now)

    def settle(self, now: i64) -> None:
        """Send what waits, a bounded number at a time."""
        while self.health.is_up and self._in_flight < _AT_ONCE and len(self._owed) > 0:
            place = next(iter(self._owed))
            debt = self._owed.pop(place)
            self._in_flight += 1
            self.health.send(_PayFlight(self, debt), now)
        while self.health.is_up and self._in_flight < _AT_ONCE and len(self._returns) > 0:
            question = self._returns.popleft()
            self._in_flight += 1
            self.health.send(_ReturnFlight(self, question), now)

    def landed(self, now: i64) -> None:
        """One of them is over."""
        self._in_flight -= 1
        if self.health.is_up and (len(self._owed) > 0 or len(self._returns) > 0):
            self.settle(now)
