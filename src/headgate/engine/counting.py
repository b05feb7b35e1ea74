"""Shared counters, carried out: what a store does with a `Question`, in Python (D2).

This is the definition. ``coordination/lua/`` is the same in the store's language, and a property test holds
it to these answers. The simulator and the store in memory use it as it is. It does no I/O and reads no clock.

One key of one counter is a cell: the state of the algorithm, the settings under which it was last counted,
and the ledger of its leases. A question with a newer version of the settings converts the cell; what was
spent stays spent, as in `headgate.engine.keyspace`. One with an older version is answered by the newer
settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from headgate.engine.counters import (
    CHECK,
    PAY,
    PEEK,
    REFUND,
    RENEW,
    RESERVE,
    SETTLE,
    STORE_EPOCH_NS,
    UNKNOWN_HOLD,
    Answer,
    Standing,
)
from headgate.engine.lease_ledger import LeaseLedger, LeaseTerms
from headgate.engine.recipes import recipe_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.algorithms.base import Algorithm
    from headgate.engine.counters import Counter, Question
    from headgate.policy.model import LimitSpec

__all__ = ["Counting"]

_NS_PER_US: Final = 1_000
_MOST_SETTINGS: Final = 10_000


@final
class _Settings:
    """A limit's settings, worked out once."""

    __slots__ = ("algorithm", "holds_permits", "recipe", "spec", "terms")

    def __init__(self, spec: LimitSpec) -> None:
        self.spec = spec  # so that its id is not given to another
        self.recipe = recipe_of(spec)
        self.algorithm = spec.build(STORE_EPOCH_NS)
        self.holds_permits = spec.algorithm == "concurrency"
        self.terms = LeaseTerms(spec.algorithm, self.algorithm)


@final
class _Cell:
    """One key of one counter."""

    __slots__ = ("changed_at_us", "ledger", "settings", "state", "version", "window_before_ns")

    def __init__(self, settings: _Settings, version: int) -> None:
        self.settings = settings
        self.version = version
        self.state: object = None
        self.ledger: LeaseLedger | None = None
        self.changed_at_us = 0
        self.window_before_ns = 0


@final
class _Hold:
    """Cost that is set aside until it is settled."""

    __slots__ = ("cost", "expires_us", "granted_at_us", "levels")

    def __init__(self, question: Question, at_us: int) -> None:
        self.levels = list(question.levels)
        self.cost = question.cost
        self.granted_at_us = at_us
        self.expires_us = at_us + question.ttl_us


@final
class Counting:
    """All counters of one store."""

    def __init__(self) -> None:
        self._cells: dict[tuple[str, str], _Cell] = {}
        self._holds: dict[str, _Hold] = {}
        self._settings: dict[int, _Settings] = {}

    def __len__(self) -> int:
        return len(self._cells)

    def ask(self, question: Question, at_us: int) -> Answer:
        """Carry one question out at a moment of the store's clock."""
        kind = question.kind
        if kind == CHECK:
            return self._check(question, at_us, spend=True)
        if kind == PEEK:
            return self._check(question, at_us, spend=False)
        if kind == RENEW:
            return self._renew(question, at_us)
        if kind == RESERVE:
            return self._reserve(question, at_us)
        if kind == SETTLE:
            return self._settle(question, at_us)
        cells = self._cells_of(question.levels, at_us)
        for cell in cells:
            if kind == REFUND:
                _refund(cell, question.cost, question.granted_at_us or at_us, at_us)
            elif kind == PAY:
                _pay(cell, question.cost, at_us)
        return Answer(at_us, _standings(cells, at_us))

    def leases(self, counter: Counter, key: str, at_us: int) -> list[tuple[str, int, int]]:
        """(node, tokens held, microseconds until it expires) of one key, live leases only."""
        cell = self._cells.get((counter.identity, key))
        if cell is None or cell.ledger is None:
            return []
        return [
            (entry.node, entry.held, entry.expires_us - at_us)
            for entry in cell.ledger.entries
            if entry.expires_us > at_us
        ]

    def release_expired(self, at_us: int, most: int) -> int:
        """Release the holds that are due, so many at most; how many were."""
        due = [name for name, hold in self._holds.items() if hold.expires_us <= at_us]
        due.sort(key=lambda name: (self._holds[name].expires_us, name))
        for name in due[:most]:
            hold = self._holds.pop(name)
            self._release(hold, 0, at_us)
        return min(most, len(due))

    def forget(self, at_us: int) -> int:
        """Drop the cells that carry no information any more; how many those were."""
        before = len(self._cells)
        self._cells = {
            place: cell for place, cell in self._cells.items() if _says_something(cell, at_us)
        }
        return before - len(self._cells)

    # The kinds -----------------------------------------------------------------------------------

    def _check(self, question: Question, at_us: int, *, spend: bool) -> Answer:
        cells = self._cells_of(question.levels, at_us)
        now = at_us * _NS_PER_US
        cost = question.cost
        waits = [cell.settings.algorithm.wait(cell.state, cost, now) for cell in cells]
        delays = [
            cell.settings.algorithm.delay(cell.state, cost, now) if wait == 0 else 0
            for cell, wait in zip(cells, waits, strict=True)
        ]
        if spend and cost > 0 and not any(waits):
            for cell in cells:
                cell.state = cell.settings.algorithm.consume(cell.state, cost, now)
        standings = [
            _standing(cell, wait, delay, now)
            for cell, wait, delay in zip(cells, waits, delays, strict=True)
        ]
        return Answer(at_us, standings)

    def _renew(self, question: Question, at_us: int) -> Answer:
        request = question.lease
        if request is None:
            raise ValueError("a question of the kind RENEW has a lease")
        (cell,) = self._cells_of(question.levels, at_us)
        if cell.ledger is None:
            cell.ledger = LeaseLedger()
        terms = cell.settings.terms
        cell.state, grant = cell.ledger.renew(terms, cell.state, request, at_us)
        return Answer(
            at_us,
            _standings([cell], at_us),
            grant.granted,
            grant.held,
            grant.again_ns,
            cell.ledger.outstanding,
        )

    def _reserve(self, question: Question, at_us: int) -> Answer:
        answer = self._check(question, at_us, spend=True)
        if all(standing.wait_ns == 0 for standing in answer.standings):
            self._holds[question.hold] = _Hold(question, at_us)
        return answer

    def _settle(self, question: Question, at_us: int) -> Answer:
        hold = self._holds.pop(question.hold, None)
        if hold is None:
            return Answer(at_us, [], failed=UNKNOWN_HOLD)
        if hold.expires_us <= at_us:
            self._release(hold, 0, at_us)
            return Answer(at_us, [], failed=UNKNOWN_HOLD)
        actual = hold.cost if question.cost < 0 else question.cost
        return Answer(at_us, _standings(self._release(hold, actual, at_us), at_us))

    def _release(self, hold: _Hold, actual: int, at_us: int) -> list[_Cell]:
        """Bring the levels of a hold to the real cost; permits come back in any case."""
        cells = self._cells_of(hold.levels, at_us)
        for cell in cells:
            if cell.settings.holds_permits:
                _refund(cell, hold.cost, hold.granted_at_us, at_us)
            elif actual < hold.cost:
                _refund(cell, hold.cost - actual, hold.granted_at_us, at_us)
            elif actual > hold.cost:
                _pay(cell, actual - hold.cost, at_us)
        return cells

    # Cells and settings --------------------------------------------------------------------------

    def _cells_of(self, levels: Sequence[tuple[Counter, str]], at_us: int) -> list[_Cell]:
        return [self._cell(counter, key, at_us) for counter, key in levels]

    def _cell(self, counter: Counter, key: str, at_us: int) -> _Cell:
        """The cell of a key, under the newest settings that are known for it."""
        place = (counter.identity, key)
        settings = self._worked_out(counter.spec)
        cell = self._cells.get(place)
        if cell is None or (cell.state is None and cell.ledger is None):
            cell = self._cells[place] = _Cell(settings, counter.version)
        elif counter.version >= cell.version:
            cell.version = counter.version
            if settings.recipe != cell.settings.recipe:
                _convert(cell, settings, at_us)
        return cell

    def _worked_out(self, spec: LimitSpec) -> _Settings:
        settings = self._settings.get(id(spec))
        if settings is None:
            if len(self._settings) >= _MOST_SETTINGS:
                self._settings.clear()
            settings = self._settings[id(spec)] = _Settings(spec)
        return settings


def _convert(cell: _Cell, settings: _Settings, at_us: int) -> None:
    """Go on under other settings: what was spent under the old ones is spent anew."""
    now = at_us * _NS_PER_US
    before, after = cell.settings.algorithm, settings.algorithm
    if cell.state is not None:
        spent = min(before.used(cell.state, now), after.capacity)
        cell.state = after.consume(None, spent, now) if spent > 0 else None
    cell.settings = settings
    cell.changed_at_us = at_us
    cell.window_before_ns = before.window_ns


def _refund(cell: _Cell, cost: int, granted_at_us: int, at_us: int) -> None:
    """Give back; a key that was forgotten has it back already."""
    if cell.state is None:
        return
    if cell.settings.holds_permits and granted_at_us < cell.changed_at_us:
        # Permits that were out when the limit changed were all taken anew at that moment.
        if (cell.changed_at_us - granted_at_us) * _NS_PER_US >= cell.window_before_ns:
            return
        granted_at_us = cell.changed_at_us
    algorithm = cell.settings.algorithm
    granted_at = granted_at_us * _NS_PER_US
    cell.state = algorithm.refund(cell.state, cost, at_us * _NS_PER_US, granted_at)


def _pay(cell: _Cell, cost: int, at_us: int) -> None:
    """Charge what can no longer be refused, as far as the key has it."""
    now = at_us * _NS_PER_US
    payable = min(cost, cell.settings.algorithm.remaining(cell.state, now))
    if payable > 0:
        cell.state = cell.settings.algorithm.consume(cell.state, payable, now)


def _standings(cells: list[_Cell], at_us: int) -> list[Standing]:
    """How things stand now, for a cost of 1."""
    now = at_us * _NS_PER_US
    found = []
    for cell in cells:
        algorithm: Algorithm = cell.settings.algorithm
        wait = algorithm.wait(cell.state, 1, now)
        delay = algorithm.delay(cell.state, 1, now) if wait == 0 else 0
        found.append(_standing(cell, wait, delay, now))
    return found


def _standing(cell: _Cell, wait: int, delay: int, now: int) -> Standing:
    algorithm = cell.settings.algorithm
    return Standing(
        wait,
        delay,
        algorithm.remaining(cell.state, now),
        algorithm.reset(cell.state, now),
        algorithm.limit,
        algorithm.window_ns,
    )


def _says_something(cell: _Cell, at_us: int) -> bool:
    if cell.ledger is not None and any(e.expires_us > at_us for e in cell.ledger.entries):
        return True
    return cell.settings.algorithm.reset(cell.state, at_us * _NS_PER_US) > 0
