"""The keyed table: what is remembered about each key, in bounded memory (A15).

Many `Keyspace`s, one for each limit, share one `KeyedTable`, which bounds how many keys are kept in
all. Forgetting costs amortised constant work and needs no background task: whenever a new key comes in,
a hand that goes round all kept keys looks at two of them and drops those whose state carries no
information (a full bucket, an empty window). So garbage shrinks as long as keys arrive, and the worst
pause is two looks.

At the hard cap, room for a new key is made by giving up the state, among a few that the hand passes,
that would have become worthless soonest. A key that is being limited (it could not spend one token
now) is never given up. When all that the hand passes are being limited, the newcomer is not kept: it
shares one *overflow* state of its limit with all such newcomers. What was given up is counted.

Thread safety: while a method of this module runs compiled, with an algorithm that is ``atomic``, it
calls no Python code and allocates nothing that the garbage collector tracks between reading a state
and writing it, so the interpreter's lock is not handed over in between. The caller locks in all other
cases (uncompiled, free-threaded, other algorithms): see `headgate.gates.limiter`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from headgate.decision import NEVER, Decision

if TYPE_CHECKING:
    from mypy_extensions import i64

    from headgate.algorithms.base import Algorithm

__all__ = ["KeyedTable", "Keyspace", "TableStats"]

DEFAULT_MAX_KEYS: Final = 1_000_000
_LOOKS_PER_INSERT: Final = 2
_LOOKS_AT_CAP: Final = 16
_KEYS_PER_CHECK: Final = 64


@final
class TableStats:
    """What the table holds and what it had to give up.

    Attributes:
        keys: keys kept now.
        max_keys: the hard cap.
        forgotten: keys dropped because their state carried no information; nothing was lost.
        evicted: keys given up early, to make room at the cap.
        tokens_forgone: the tokens that evicted keys had spent and that were thereby handed back.
        overflowed: times that a key could not be kept and was decided on the shared overflow state.
    """

    def __init__(
        self,
        keys: int,
        max_keys: int,
        forgotten: int,
        evicted: int,
        tokens_forgone: int,
        overflowed: int,
    ) -> None:
        self.keys = keys
        self.max_keys = max_keys
        self.forgotten = forgotten
        self.evicted = evicted
        self.tokens_forgone = tokens_forgone
        self.overflowed = overflowed

    def __repr__(self) -> str:
        return (
            f"TableStats(keys={self.keys}, max_keys={self.max_keys}, forgotten={self.forgotten}, "
            f"evicted={self.evicted}, tokens_forgone={self.tokens_forgone}, "
            f"overflowed={self.overflowed})"
        )


@final
class KeyedTable:
    """A bound on the keys of all its keyspaces together, and the hand that forgets.

    Each kept key has one slot, in two parallel lists: its keyspace and the key itself.
    """

    def __init__(self, max_keys: int = DEFAULT_MAX_KEYS) -> None:
        self._max_keys: i64 = max_keys
        self._spaces: list[Keyspace] = []
        self._keys: list[str] = []
        self._hand: i64 = 0
        self._forgotten: i64 = 0
        self._evicted: i64 = 0
        self._tokens_forgone: i64 = 0
        self._overflowed: i64 = 0

    def __len__(self) -> int:
        return len(self._keys)

    def stats(self) -> TableStats:
        """A reading of the counters."""
        return TableStats(
            len(self._keys),
            self._max_keys,
            self._forgotten,
            self._evicted,
            self._tokens_forgone,
            self._overflowed,
        )

    def has_room(self) -> bool:
        """Whether new keys, and as many as one check may bring, find room without a search."""
        return len(self._keys) + _KEYS_PER_CHECK <= self._max_keys

    def make_slot(self, space: Keyspace, key: str, now: i64) -> bool:
        """Give a new key a slot; False when there is no room and nothing may be given up."""
        self._tidy(now)
        if len(self._keys) >= self._max_keys and not self._make_room(now):
            self._overflowed += 1
            return False
        self._spaces.append(space)
        self._keys.append(key)
        return True

    def _tidy(self, now: i64) -> None:
        """Look at the next two slots and drop what carries no information."""
        looks: i64 = 0
        while looks < _LOOKS_PER_INSERT and len(self._keys) > 0:
            slot = self._next_slot()
            if self._spaces[slot].reset_of(self._keys[slot], now) <= 0:
                self._drop(slot)
                self._forgotten += 1
            looks += 1

    def _make_room(self, now: i64) -> bool:
        """Give up the least informative of the next slots; False when all are being limited."""
        victim: i64 = -1
        soonest: i64 = 0
        looks: i64 = 0
        while looks < _LOOKS_AT_CAP:
            looks += 1
            slot = self._next_slot()
            space = self._spaces[slot]
            key = self._keys[slot]
            reset = space.reset_of(key, now)
            if reset <= 0:
                self._drop(slot)
                self._forgotten += 1
                return True
            if (victim < 0 or reset < soonest) and space.remaining_of(key, now) > 0:
                victim = slot
                soonest = reset
        if victim < 0:
            return False
        self._tokens_forgone += self._spaces[victim].used_of(self._keys[victim], now)
        self._evicted += 1
        self._drop(victim)
        return True

    def _next_slot(self) -> i64:
        """The slot under the hand, which moves on to the next."""
        size: i64 = len(self._keys)
        if self._hand >= size:
            self._hand = 0
        slot = self._hand
        self._hand += 1
        return slot

    def _drop(self, slot: i64) -> None:
        """Forget the key of a slot; the last slot moves into its place."""
        self._spaces[slot].forget(self._keys[slot])
        last_space = self._spaces.pop()
        last_key = self._keys.pop()
        if slot < len(self._keys):
            self._spaces[slot] = last_space
            self._keys[slot] = last_key


@final
class Keyspace:
    """The keys of one limit.

    Attributes:
        algorithm: decides.
        name: of the policy, as it stands in decisions.
        place: where the limit stands among the policies; it outlives a change of its settings.
        settings: tells limits with different settings apart.
        predecessor: the keyspace of the limit before it changed, while that still has keys;
            a key carries over what it had spent there.
        admitted: checks answered yes.
        denied: checks answered no.
    """

    def __init__(
        self,
        table: KeyedTable,
        algorithm: Algorithm,
        name: str,
        place: str = "",
        settings: str = "",
    ) -> None:
        self._table = table
        self.algorithm = algorithm
        self.name = name
        self.place = place
        self.settings = settings
        self.admitted: i64 = 0
        self.denied: i64 = 0
        self._states: dict[str, object] = {}
        self._overflow: object = None
        self.predecessor: Keyspace | None = None

    def __len__(self) -> int:
        return len(self._states)

    def check(self, key: str, cost: i64, now: i64) -> Decision:
        """Decide and, when it passes, spend."""
        algorithm = self.algorithm
        state = self._states.get(key)
        new = state is None
        if new:
            state = self.state_of(key, now)
        wait = algorithm.wait(state, cost, now)
        delay: i64 = 0
        if wait != 0:
            self.denied += 1
        else:
            self.admitted += 1
            if cost > 0:
                delay = algorithm.delay(state, cost, now)
                if new:
                    state = self._spend_new(key, cost, now)
                else:
                    state = algorithm.consume(state, cost, now)
                    self._states[key] = state
        return self._describe(state, wait, delay, now)

    def peek(self, key: str, cost: i64, now: i64) -> Decision:
        """Decide and spend nothing."""
        state = self.state_of(key, now)
        wait = self.algorithm.wait(state, cost, now)
        return self._describe(state, wait, self.algorithm.delay(state, cost, now), now)

    def describe(self, key: str, wait: i64, delay: i64, now: i64) -> Decision:
        """The complete answer for a wait that was worked out before."""
        return self._describe(self.state_of(key, now), wait, delay, now)

    def wait(self, key: str, cost: i64, now: i64) -> i64:
        """See `Algorithm.wait`."""
        return self.algorithm.wait(self.state_of(key, now), cost, now)

    def delay(self, key: str, cost: i64, now: i64) -> i64:
        """See `Algorithm.delay`."""
        return self.algorithm.delay(self.state_of(key, now), cost, now)

    def consume(self, key: str, cost: i64, now: i64) -> None:
        """Spend what `wait` said passes."""
        state = self._states.get(key)
        if state is None:
            self._spend_new(key, cost, now)
        else:
            self._states[key] = self.algorithm.consume(state, cost, now)

    def refund(self, key: str, cost: i64, now: i64, granted_at: i64) -> None:
        """Give back what was spent at ``granted_at``; a key that was forgotten has it back already."""
        state = self._states.get(key)
        if state is not None:
            self._states[key] = self.algorithm.refund(state, cost, now, granted_at)

    def clear(self, key: str) -> None:
        """Hand a key its whole allowance back."""
        if key in self._states:
            self._states[key] = None

    def reset_of(self, key: str, now: i64) -> i64:
        """The wait until a key's state carries no information."""
        state = self._states.get(key)
        if state is None:
            return 0
        return self.algorithm.reset(state, now)

    def remaining_of(self, key: str, now: i64) -> i64:
        """The largest cost that passes now."""
        return self.algorithm.remaining(self._states.get(key), now)

    def used_of(self, key: str, now: i64) -> i64:
        """What counts against the limit now."""
        return self.algorithm.used(self._states.get(key), now)

    def forget(self, key: str) -> None:
        """Drop a key; for the table, which keeps the slots."""
        self._states.pop(key, None)

    def retire(self) -> None:
        """Drop all keys; the table's hand reclaims their slots as it passes."""
        self._states.clear()

    def dump(self, now: i64, wall_offset_ns: i64) -> dict[str, list[int]]:
        """The states that carry information, for a snapshot."""
        algorithm = self.algorithm
        dumped: dict[str, list[int]] = {}
        for key, state in self._states.items():
            if state is not None and algorithm.reset(state, now) > 0:
                dumped[key] = algorithm.dump(state, wall_offset_ns)
        return dumped

    def load(self, key: str, values: list[int], now: i64, wall_offset_ns: i64) -> bool:
        """Take over a dumped state; False when it carries nothing any more, or there is no room."""
        state = self.algorithm.load(values, wall_offset_ns)
        if key in self._states or self.algorithm.reset(state, now) <= 0:
            return False
        if not self._table.make_slot(self, key, now):
            return False
        self._states[key] = state
        return True

    def state_of(self, key: str, now: i64) -> object:
        """What decides for a key now: its own state, or the overflow state when room is short."""
        state = self._states.get(key)
        if state is not None or key in self._states:
            return state
        if self.predecessor is not None:
            self._inherit(key, now)
            return self._states.get(key)
        if self._table.has_room():
            return None
        return self._overflow

    def _inherit(self, key: str, now: i64) -> None:
        """Charge a key here with what it had spent under the limit that this one follows."""
        predecessor = self.predecessor
        if predecessor is None:
            return
        predecessor.state_of(key, now)  # which may have to inherit it first
        spent = min(predecessor.used_of(key, now), self.algorithm.capacity)
        predecessor.forget(key)
        if spent > 0:
            self._spend_new(key, spent, now)
        if len(predecessor) == 0:
            self.predecessor = None

    def _spend_new(self, key: str, cost: i64, now: i64) -> object:
        """The state after a key that has none spent: its own, or the shared one without room."""
        if key in self._states or self._table.make_slot(self, key, now):
            state = self.algorithm.consume(None, cost, now)
            self._states[key] = state
            return state
        self._overflow = self.algorithm.consume(self._overflow, cost, now)
        return self._overflow

    def _describe(self, state: object, wait: i64, delay: i64, now: i64) -> Decision:
        algorithm = self.algorithm
        if wait != 0:
            delay = 0
        return Decision(
            wait == 0,
            algorithm.limit,
            algorithm.remaining(state, now),
            wait,
            algorithm.reset(state, now),
            delay,
            self.name,
            algorithm.window_ns,
        )


def longer_wait(one: i64, other: i64) -> i64:
    """The longer of two waits; `NEVER` is the longest."""
    if one == NEVER or other == NEVER:
        return NEVER
    if one > other:
        return one
    return other
