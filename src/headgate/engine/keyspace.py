"""The keys of one limit, and what becomes of them when the limit changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from headgate.algorithms.concurrency import Concurrency
from headgate.algorithms.paced import EVEN, Paced
from headgate.decision import Decision

if TYPE_CHECKING:
    from mypy_extensions import i64

    from headgate.algorithms.base import Algorithm
    from headgate.engine.shared_limit import SharedLimit
    from headgate.engine.table import KeyedTable

__all__ = ["FREE", "FULL", "Keyspace"]

FULL: Final = -1
"""Where a new key goes that finds no room: to the overflow state."""
FREE: Final = -2
"""Where it goes when nothing needs to be given up for it; else it is the slot that is."""

_MOST_FORMERS: Final = 8


@final
class _Former:
    """What a limit was before its settings changed, with the keys that nobody asked for since."""

    def __init__(self, algorithm: Algorithm, settings: str, states: dict[str, object]) -> None:
        self.algorithm = algorithm
        self.settings = settings
        self.states = states


@final
class Keyspace:
    """The keys of one limit.

    When the settings change, each key is charged, under the new ones, with what it had spent at the
    moment of the change; and that is worked out when the key is next looked at. Until then its old
    state waits, so a change costs nothing, whatever the number of keys, and undoing it undoes it all.

    Attributes:
        algorithm: decides.
        name: of the policy, as it stands in decisions.
        place: where the limit stands among the policies; it outlives a change of its settings.
        settings: tells limits with different settings apart.
        admitted: checks answered yes.
        denied: checks answered no.
        shared: how it is shared with other nodes; None when it is not. The keyspace itself knows nothing of
            that, and decides alone when it is asked.
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
        self.shared: SharedLimit | None = None
        self._states: dict[str, object] = {}
        self._overflow: object = None
        self._formers: list[_Former] = []
        self._changed_at: i64 = 0
        self._window_before: i64 = 0
        self._is_retired = False

    def __len__(self) -> int:
        return len(self._states) + sum([len(former.states) for former in self._formers])

    @property
    def holds_permits(self) -> bool:
        """Whether what is spent here is given back when the work is over."""
        return isinstance(self.algorithm, Concurrency)

    # One key -------------------------------------------------------------------------------------

    def check(self, key: str, cost: i64, now: i64) -> Decision:
        """Decide and, when it passes, spend."""
        algorithm = self.algorithm
        state = self._states.get(key)
        known = state is not None
        room: i64 = FREE
        if not known:
            room = self._room_for(key, now)
            state = self.state_of(key, room != FULL)
        wait = algorithm.wait(state, cost, now)
        delay: i64 = 0
        if wait != 0:
            self.denied += 1
        else:
            self.admitted += 1
            if cost > 0:
                delay = algorithm.delay(state, cost, now)
                if known:
                    state = algorithm.consume(state, cost, now)
                    self._states[key] = state
                else:
                    state = self.spend(key, state, cost, now, room)
        if room == FULL:
            self._table.overflow(1)
        return self.answer(state, wait, delay, now)

    def peek(self, key: str, cost: i64, now: i64) -> Decision:
        """Decide and spend nothing."""
        state = self.standing(key, now)
        wait = self.algorithm.wait(state, cost, now)
        return self.answer(state, wait, self.algorithm.delay(state, cost, now), now)

    def refund(self, key: str, cost: i64, now: i64, granted_at: i64) -> None:
        """Give back what was spent at ``granted_at``; a key that was forgotten has it back already."""
        state = self.find(key)
        if state is None:
            return
        if granted_at < self._changed_at and self.holds_permits:
            # Permits that were out when the limit changed were all taken anew at that moment.
            if self._changed_at - granted_at >= self._window_before:
                return
            granted_at = self._changed_at
        self._states[key] = self.algorithm.refund(state, cost, now, granted_at)

    def pay(self, key: str, cost: i64, now: i64) -> None:
        """Charge what can no longer be refused, as far as the key has it."""
        if self._is_retired:
            return
        room = self._room_for(key, now)
        state = self.state_of(key, room != FULL)
        payable = min(cost, self.algorithm.remaining(state, now))
        if payable > 0:
            self.spend(key, state, payable, now, room)

    def clear(self, key: str) -> None:
        """Hand a key its whole allowance back."""
        if self.tracks(key):
            self._states[key] = None

    def standing(self, key: str, now: i64) -> object:
        """What decides for a key now: its own state, or the overflow state when room is short."""
        return self.state_of(key, self._room_for(key, now) != FULL)

    # The steps of a decision, for those that decide on several keys together ----------------------

    def tracks(self, key: str) -> bool:
        """Whether the key has a slot."""
        if key in self._states:
            return True
        return len(self._formers) > 0 and self._recall(key)

    def find(self, key: str) -> object:
        """The key's own state; None when there is none, or when it carries no information."""
        state = self._states.get(key)
        if state is None and len(self._formers) > 0 and self._recall(key):
            return self._states[key]
        return state

    def state_of(self, key: str, kept: bool) -> object:
        """The state that decides for a key, which is the shared one if the key cannot be kept."""
        state = self.find(key)
        if state is None and not kept and key not in self._states:
            return self._overflow
        return state

    def spend(self, key: str, state: object, cost: i64, now: i64, room: i64) -> object:
        """Spend what `Algorithm.wait` said passes; the state afterwards, which is in force."""
        spent = self.algorithm.consume(state, cost, now)
        if key in self._states or self._table.make_slot(self, key, room, now):
            self._states[key] = spent
        else:
            self._overflow = spent
        return spent

    def answer(self, state: object, wait: i64, delay: i64, now: i64) -> Decision:
        """The complete answer for a wait and a delay that were worked out before."""
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

    # For the table -------------------------------------------------------------------------------

    def reset_of(self, key: str, now: i64) -> i64:
        """The wait until a key's state carries no information."""
        state = self.find(key)
        if state is None:
            return 0
        return self.algorithm.reset(state, now)

    def remaining_of(self, key: str, now: i64) -> i64:
        """The largest cost that passes now."""
        return self.algorithm.remaining(self.find(key), now)

    def used_of(self, key: str, now: i64) -> i64:
        """What counts against the limit now."""
        return self.algorithm.used(self.find(key), now)

    def forget(self, key: str) -> None:
        """Drop a key, whose slot the table has given away."""
        if self.tracks(key):
            del self._states[key]

    # Change and end ------------------------------------------------------------------------------

    def change(self, algorithm: Algorithm, settings: str, now: i64) -> None:
        """Go on under other settings."""
        if settings == self.settings:
            return
        before = self.algorithm
        if len(self._states) > 0:
            self._formers.append(_Former(before, self.settings, self._states))
        self._states = {}
        self.algorithm = algorithm
        self.settings = settings
        self._take_back()
        self._overflow = _carried(self._overflow, before, self.algorithm, now)
        self._window_before = before.window_ns
        self._changed_at = now
        if len(self._formers) > _MOST_FORMERS:
            self._merge_formers(now)

    def set_pace(self, pace: i64, now: i64) -> None:
        """Let the limit run at so many thousandths of its rate; see `headgate.algorithms.paced`.

        It has to be one that `Algorithm.can_be_paced`.
        """
        algorithm = self.algorithm
        if isinstance(algorithm, Paced):
            algorithm.set_pace(pace, now)
        elif pace != EVEN:
            paced = Paced(algorithm, now)
            paced.set_pace(pace, now)
            self.algorithm = paced

    def retire(self) -> None:
        """Drop all keys; the table's hand reclaims their slots as it passes."""
        self._is_retired = True
        self._states.clear()
        self._formers.clear()
        self._overflow = None

    def dump(self, now: i64, wall_offset_ns: i64) -> dict[str, list[int]]:
        """The states that carry information, for a snapshot."""
        algorithm = self.algorithm
        for former in self._formers.copy():
            for key in list(former.states):
                self._recall(key)
        dumped: dict[str, list[int]] = {}
        for key, state in self._states.items():
            if state is not None and algorithm.reset(state, now) > 0:
                dumped[key] = algorithm.dump(state, wall_offset_ns)
        return dumped

    def load(self, key: str, values: list[int], now: i64, wall_offset_ns: i64) -> bool:
        """Take over a dumped state; False when it carries nothing any more, or there is no room.

        Raises:
            ValueError: the values are no state of this limit.
        """
        return self.adopt(key, self.algorithm.load(values, wall_offset_ns), now)

    def adopt(self, key: str, state: object, now: i64) -> bool:
        """Take over a state; False when there is a newer one, it is worth nothing, or room is short."""
        if self.tracks(key) or self.algorithm.reset(state, now) <= 0:
            return False
        if not self._table.make_slot(self, key, self._table.room(now), now):
            return False
        self._states[key] = state
        return True

    # Inside --------------------------------------------------------------------------------------

    def _room_for(self, key: str, now: i64) -> i64:
        if self.tracks(key):
            return FREE
        return self._table.room(now)

    def _recall(self, key: str) -> bool:
        """Move a key's state over from before a change; False when it had none."""
        for former in self._formers:
            if key in former.states:
                state = former.states.pop(key)
                self._states[key] = _carried(
                    state, former.algorithm, self.algorithm, self._changed_at
                )
                if len(former.states) == 0:
                    self._formers.remove(former)
                return True
        return False

    def _take_back(self) -> None:
        """Go on with the former that had these settings: whose change is undone has lost nothing."""
        for former in self._formers:
            if former.settings == self.settings:
                self._formers.remove(former)
                self._states = former.states
                self.algorithm = former.algorithm  # with the time that its states are in
                return

    def _merge_formers(self, now: i64) -> None:
        """Join the two formers that have the fewest keys.

        So the work stays small where few keys are asked for between two changes, and a key is moved but
        a few times however often the settings change.
        """
        self._formers.sort(key=_size_of, reverse=True)
        smallest = self._formers.pop()
        into = self._formers[-1]
        for key, state in smallest.states.items():
            into.states[key] = _carried(state, smallest.algorithm, into.algorithm, now)


def _size_of(former: _Former) -> int:
    return len(former.states)


def _carried(state: object, before: Algorithm, after: Algorithm, now: i64) -> object:
    """What was spent by now under one algorithm, as a state of another."""
    if state is None:
        return None
    spent = min(before.used(state, now), after.capacity)
    if spent <= 0:
        return None
    return after.consume(None, spent, now)
