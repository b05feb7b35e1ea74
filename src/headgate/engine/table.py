"""The keyed table: what is remembered about each key, in bounded memory (A15).

Many `Keyspace`s, one for each limit, share one `KeyedTable`, which bounds how many keys are kept in
all. Forgetting costs amortised constant work and needs no background task: whenever a new key comes in,
a hand that goes round all kept keys looks at two of them and drops those whose state carries no
information (a full bucket, an empty window). So garbage shrinks as long as keys arrive, and the worst
pause is a few looks.

At the hard cap, room for a new key is made by giving up, among a few that the hand passes, the key that
has spent the least part of its allowance: that part is what is handed back too early. A key that is
being limited is never given up: one that has spent more than half of its allowance, or cannot spend one
token. (Were it only the latter, a key at its limit could be given up, and start afresh, in each moment in
which one token has come back to it.) When all that the hand passes are being limited, the newcomer is
not kept: it shares one *overflow* state of its limit with all such newcomers. What was given up is
counted.

Whether room can be made is settled before the newcomer is decided on, so an answer holds whichever
way it goes; and it is only made when the answer is yes, so a refusal gives nothing up.

Thread safety: while a method of this module or of `headgate.engine.keyspace` runs compiled, with an
algorithm that is ``atomic``, it calls no Python code and allocates nothing that the garbage collector
tracks between reading a state and writing it, so the interpreter's lock is not handed over in between.
That is so for all that deals with one key. The caller locks in all other cases (uncompiled,
free-threaded, other algorithms, several keys): see `headgate.gates.limiter`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from headgate.engine.keyspace import FREE, FULL, Keyspace
from headgate.errors import InvalidInput

if TYPE_CHECKING:
    from mypy_extensions import i64

__all__ = ["DEFAULT_MAX_KEYS", "MAX_KEYS", "KeyedTable", "Keyspace", "TableStats"]

DEFAULT_MAX_KEYS: Final = 1_000_000
MAX_KEYS: Final = 10**9
_LOOKS_PER_INSERT: Final = 2
_LOOKS_AT_CAP: Final = 16


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

    Each kept key has one slot, in two parallel lists: its keyspace and the key itself. A slot whose
    keyspace was retired keeps nothing any more, and is reclaimed when the hand passes.

    Args:
        max_keys: the hard cap, 1 to a billion.

    Raises:
        InvalidInput: the cap is out of bounds.
    """

    def __init__(self, max_keys: int = DEFAULT_MAX_KEYS) -> None:
        if not 1 <= max_keys <= MAX_KEYS:
            message = f"max_keys must be 1 to {MAX_KEYS}, got {max_keys}"
            raise InvalidInput(message)
        self._max_keys: i64 = max_keys
        self._spaces: list[Keyspace] = []
        self._keys: list[str] = []
        self._hand: i64 = 0
        self._looks: i64 = 0
        self._forgotten: i64 = 0
        self._evicted: i64 = 0
        self._tokens_forgone: i64 = 0
        self._overflowed: i64 = 0

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def looks(self) -> int:
        """How many slots were ever looked at: the work that keeping and forgetting has cost."""
        return self._looks

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

    # One new key ---------------------------------------------------------------------------------

    def room(self, now: i64) -> i64:
        """Where a new key could go: FREE, a slot to give up for it, or FULL. Changes nothing."""
        if len(self._keys) < self._max_keys:
            return FREE
        return self._victim(self._hand, _LOOKS_AT_CAP, now, None)

    def make_slot(self, space: Keyspace, key: str, room: i64, now: i64) -> bool:
        """Give a new key the slot that `room` has just found; False when it found none."""
        if room == FULL:
            return False
        if room != FREE:
            self._give_up(room, now)
            self._hand = room + 1
        self._tidy(now)
        self._spaces.append(space)
        self._keys.append(key)
        return True

    def overflow(self, newcomers: i64) -> None:
        """Note that new keys found no room, and pass on to other slots for the next."""
        self._overflowed += newcomers
        self._pass(_LOOKS_AT_CAP * newcomers)

    # Several new keys ----------------------------------------------------------------------------

    def can_keep_all(self, new: i64, keys: list[tuple[Keyspace, str]], now: i64) -> bool:
        """Whether `make_room` would succeed. Changes nothing."""
        missing = len(self._keys) + new - self._max_keys
        return missing <= 0 or len(self._victims(missing, keys, now)) > 0

    def make_room(self, new: i64, keys: list[tuple[Keyspace, str]], now: i64) -> bool:
        """Give up what it takes to keep so many new keys, or nothing if it cannot be done.

        Args:
            new: how many slots are wanted.
            keys: what may not be given up for them, because it is being decided on together with them.
            now: nanoseconds.
        """
        missing = len(self._keys) + new - self._max_keys
        if missing <= 0:
            return True
        victims = self._victims(missing, keys, now)
        if len(victims) == 0:
            return False
        # From the last on: dropping a slot moves the last one into its place.
        for victim in sorted(victims, reverse=True):
            self._give_up(victim, now)
        self._pass(missing * _LOOKS_AT_CAP)
        return True

    def _victims(self, missing: i64, keys: list[tuple[Keyspace, str]], now: i64) -> list[i64]:
        """One slot to give up from each of the next stretches; none at all when one has none."""
        looks: i64 = min(_LOOKS_AT_CAP, len(self._keys) // missing)
        pinned = set(keys)
        victims: list[i64] = []
        first = self._hand
        while len(victims) < missing:
            victim = self._victim(first, looks, now, pinned)
            if victim == FULL:
                return []
            victims.append(victim)
            first += looks
        return victims

    # Inside --------------------------------------------------------------------------------------

    def _pass(self, slots: i64) -> None:
        """Move the hand on."""
        size: i64 = len(self._keys)
        if size > 0:
            self._hand = (self._hand + slots) % size

    def _tidy(self, now: i64) -> None:
        """Look at the next two slots and drop what carries no information."""
        looks: i64 = 0
        while looks < _LOOKS_PER_INSERT and len(self._keys) > 0:
            if self._hand >= len(self._keys):
                self._hand = 0
            slot = self._hand
            self._hand += 1
            if self._spaces[slot].reset_of(self._keys[slot], now) <= 0:
                self._drop(slot)
                self._forgotten += 1
            looks += 1
        self._looks += looks

    def _victim(
        self, first: i64, looks: i64, now: i64, pinned: set[tuple[Keyspace, str]] | None
    ) -> i64:
        """The next slot that has spent the least part of its allowance; FULL when all are limited."""
        size: i64 = len(self._keys)
        victim: i64 = FULL
        least = 0.0
        soonest: i64 = 0
        looked: i64 = 0
        while looked < looks and looked < size:
            slot = (first + looked) % size
            looked += 1
            space = self._spaces[slot]
            key = self._keys[slot]
            algorithm = space.algorithm
            state = space.find(key)
            reset: i64 = 0 if state is None else algorithm.reset(state, now)
            if pinned is not None and (space, key) in pinned:
                continue
            if reset <= 0:
                victim = slot
                break
            used = algorithm.used(state, now)
            if used + used > algorithm.capacity or algorithm.remaining(state, now) <= 0:
                continue
            part = float(used) / float(algorithm.capacity)
            if victim == FULL or part < least or (part == least and reset < soonest):
                victim = slot
                least = part
                soonest = reset
        self._looks += looked
        return victim

    def _give_up(self, slot: i64, now: i64) -> None:
        space = self._spaces[slot]
        key = self._keys[slot]
        if space.reset_of(key, now) <= 0:
            self._forgotten += 1
        else:
            self._evicted += 1
            self._tokens_forgone += space.used_of(key, now)
        self._drop(slot)

    def _drop(self, slot: i64) -> None:
        """Forget the key of a slot; the last slot moves into its place."""
        self._spaces[slot].forget(self._keys[slot])
        last_space = self._spaces.pop()
        last_key = self._keys.pop()
        if slot < len(self._keys):
            self._spaces[slot] = last_space
            self._keys[slot] = last_key
