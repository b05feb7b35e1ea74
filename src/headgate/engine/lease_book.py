"""The records of a node's leases, in bounded memory (A15), and when each is to be looked at next.

At the cap, room for a new key is made by forgetting, among a few that a hand passes, one that says nothing:
no tokens, no message on its way, nobody waiting. A key that is being limited is never forgotten, and tokens
are never lost with a record: they are given back first. When nothing can be forgotten, the newcomer has no
record, and is counted strictly.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final, final

from headgate.engine.leases import Lease

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_extensions import i64

    from headgate.engine.shared_limit import SharedLimit
    from headgate.engine.store_health import StoreHealth

__all__ = ["Agenda", "LeaseBook"]

_SLACK: Final = 64
_MOST_LOOKS: Final = 4096


@final
class LeaseBook:
    """The records.

    Args:
        most: so many at most.

    Attributes:
        count: how many there are.
    """

    def __init__(self, most: i64) -> None:
        self.count: i64 = 0
        self._most: i64 = most
        self._slots: list[tuple[SharedLimit, Lease]] = []
        self._hand: i64 = 0

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another one."""
        return self.count >= self._most

    def enter(self, shared: SharedLimit, key: str, now: i64) -> Lease:
        """A new record."""
        lease = Lease(key, now)
        shared.leases[key] = lease
        self.count += 1
        self._slots.append((shared, lease))
        return lease

    def forget(self, shared: SharedLimit, lease: Lease) -> None:
        """Drop a record."""
        lease.is_forgotten = True
        if shared.leases.get(lease.key) is lease:
            del shared.leases[lease.key]
        self.count -= 1
        # Its slot is dropped when there are many of the kind.
        if len(self._slots) > 2 * self.count + _SLACK:
            self._slots = self.slots()
            self._hand = 0

    def slots(self) -> list[tuple[SharedLimit, Lease]]:
        """All records, with the limits that they belong to."""
        return [slot for slot in self._slots if not slot[1].is_forgotten]

    def next_slot(self) -> tuple[SharedLimit, Lease] | None:
        """The next record that the hand comes to."""
        while len(self._slots) > 0:
            self._hand = (self._hand + 1) % len(self._slots)
            slot = self._slots[self._hand]
            if not slot[1].is_forgotten:
                return slot
            self._slots[self._hand] = self._slots[-1]
            self._slots.pop()
        return None

    def holdings(self) -> tuple[int, int]:
        """Tokens held by this node, and the sum of the bounds of the keys that it holds some of."""
        held: i64 = 0
        bound: i64 = 0
        for shared, lease in self._slots:
            if not lease.is_forgotten and lease.left + lease.pinned > 0:
                held += lease.left + lease.pinned
                bound += shared.bound
        return held, bound


@final
class Agenda:
    """Looks at leases at the time that was set for each, with one timer for all.

    Args:
        health: has the time, and timers.
        look: what to do.
    """

    def __init__(
        self, health: StoreHealth, look: Callable[[SharedLimit, Lease, int], object]
    ) -> None:
        self._health = health
        self._look = look
        self._entries: list[tuple[int, int, SharedLimit, Lease]] = []
        self._number: i64 = 0
        self._alarm_at: i64 = 0
        self._alarm: i64 = 0

    def __len__(self) -> int:
        return len(self._entries)

    def enter(self, shared: SharedLimit, lease: Lease, at: i64) -> None:
        """Look at a lease then, if that is not to be done earlier anyway."""
        if lease.is_forgotten or (lease.look_at != 0 and lease.look_at <= at):
            return
        if lease.last_look_at != 0 and lease.last_look_at <= at:
            # An entry from before it was to be looked at earlier: it will do, and entries do not pile up.
            lease.look_at = lease.last_look_at
            return
        lease.look_at = at
        lease.last_look_at = max(at, lease.last_look_at)
        self._number += 1
        heappush(self._entries, (at, self._number, shared, lease))
        self._set_alarm(at)

    def _set_alarm(self, at: i64) -> None:
        if self._alarm_at != 0 and self._alarm_at <= at:
            return
        self._alarm_at = at
        self._alarm += 1
        self._health.later(at - self._health.now(), _Alarm(self, self._alarm).ring)

    def ring(self, alarm: i64) -> None:
        """Look at what is due, unless an earlier alarm was set since."""
        if alarm != self._alarm:
            return
        now = self._health.now()
        self._alarm_at = 0
        left: i64 = _MOST_LOOKS
        while left > 0 and len(self._entries) > 0:
            at, _, shared, lease = self._entries[0]
            if at > now:
                break
            heappop(self._entries)
            left -= 1
            if lease.last_look_at == at:
                lease.last_look_at = 0
            if lease.look_at == at and not lease.is_forgotten:
                lease.look_at = 0
                self._look(shared, lease, now)
        if len(self._entries) > 0:
            self._set_alarm(max(self._entries[0][0], now))


@final
class _Alarm:
    """Rings for one setting. By its number and not by the time: uvloop may call 1.5 ms early."""

    def __init__(self, agenda: Agenda, number: i64) -> None:
        self._agenda = agenda
        self._number: i64 = number

    def ring(self) -> None:
        self._agenda.ring(self._number)
