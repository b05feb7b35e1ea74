"""The engine: the limits of all policies that apply to a request, decided together.

All levels admit, or nothing is consumed anywhere (A9). The engine is owned by one thread (the service's
loop); it takes no lock of its own.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, SupportsIndex, final

from headgate.decision import NEVER, Decision
from headgate.engine.levels import is_shared, keys_of
from headgate.engine.policy_book import PolicyBook
from headgate.engine.reservations import Reservation, ReservationBook, valid_ttl
from headgate.engine.snapshots import read_snapshot, write_snapshot
from headgate.engine.stats import EngineStats, PolicyStats, Usage
from headgate.engine.table import DEFAULT_MAX_KEYS, KeyedTable, Keyspace
from headgate.engine.together import decide
from headgate.inputs import MAX_COST, valid_cost
from headgate.priority import DEFAULT_TIER, TIERS

if TYPE_CHECKING:
    from mypy_extensions import i64

    from headgate.clock import Clock
    from headgate.engine.pending import Pending
    from headgate.engine.ports import DenialObserver
    from headgate.engine.sharing import Sharing
    from headgate.errors import HeadgateError
    from headgate.policy.model import Policy

__all__ = ["Engine"]

_log = logging.getLogger("headgate.engine")
DEFAULT_MAX_RESERVATIONS: Final = 100_000


@final
class Engine:
    """Policies in, decisions out.

    Args:
        clock: gives the time.
        max_keys: how many keys are kept in all (see `headgate.engine.table`).
        admit_unmatched: what a request gets that no policy applies to.
        max_reservations: how many holds may be open.
        observer: is told of denials; it can neither slow nor break a decision.

    Raises:
        InvalidInput: a bound is out of its own bounds.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        max_keys: int = DEFAULT_MAX_KEYS,
        admit_unmatched: bool = True,
        max_reservations: int = DEFAULT_MAX_RESERVATIONS,
        observer: DenialObserver | None = None,
    ) -> None:
        self.clock = clock
        self.table = KeyedTable(max_keys)
        self.unmatched: i64 = 0
        self._now = clock.now_ns
        self._admit_unmatched = admit_unmatched
        self._observer = observer
        self._book = ReservationBook(max_reservations)
        self._policies = PolicyBook(self.table, clock.wall_offset_ns)
        self._plan = self._policies.plan
        self._sharing: Sharing | None = None

    # Policies ------------------------------------------------------------------------------------

    def policies(self) -> list[Policy]:
        """All policies, in the order in which they were first set."""
        return [installed.policy for installed in self._policies.installed()]

    def policy(self, name: str) -> Policy | None:
        """One policy, or None."""
        installed = self._policies.find(name)
        return None if installed is None else installed.policy

    def share(self, sharing: Sharing | None) -> None:
        """Decide strict and leased policies with other nodes from now on; each for itself when None.

        The ``begin_`` methods go by it. The others decide locally as if there were none, because they cannot
        wait for an answer. A sharing is made with the clock and the table of the engine that it serves.
        """
        if sharing is not None:
            sharing.join(self._book, self._observe_denial)
        self._sharing = sharing
        self._policies.share(sharing)

    @property
    def sharing(self) -> Sharing | None:
        """How limits are shared with other nodes; None when they are not."""
        return self._sharing

    def set_policy(self, policy: Policy, version: int = 0) -> None:
        """Put a policy in force, in place of the one of the same name.

        Counters go on: a limit that did not change keeps its states, and the keys of one that did
        carry over what they had spent. So do those of a policy that is disabled and enabled again.

        Args:
            policy: the policy.
            version: of it, rising with every change, the same on all nodes that share it: by which the
                shared counters tell which settings are the newer ones.
        """
        self._policies.set(policy, version, self._now())

    def remove_policy(self, name: str) -> bool:
        """Put a policy out of force; False when there is none of that name."""
        return self._policies.remove(name)

    def observe_denials(self, observer: DenialObserver | None) -> None:
        """Tell this one of denials from now on; nobody when None."""
        self._observer = observer

    def adapt(self, pressure: float) -> None:
        """Let the adaptive policies run as fast as is good at this pressure (A6).

        Call it every 250 ms; more often changes nothing, and costs no more than finding out which policies
        are adaptive.

        Args:
            pressure: 0 idle, 1 at the limit of what the system can do.
        """
        now = self._tick()
        for installed in self._policies.installed():
            installed.adapt(pressure, now)

    def factors(self) -> dict[str, float]:
        """For each adaptive policy, how many times their rate its limits run at now."""
        return {
            installed.policy.name: installed.rule.factor
            for installed in self._policies.installed()
            if installed.rule is not None
        }

    # Decisions -----------------------------------------------------------------------------------

    def check(self, attributes: dict[str, str], cost: SupportsIndex = 1) -> Decision:
        """Decide, and spend when all applicable limits admit.

        Args:
            attributes: dimension -> value.
            cost: tokens, >= 0; 0 only asks.

        Raises:
            InvalidCost: the cost is negative, huge, or no whole number.
        """
        tokens = cost if type(cost) is int and 0 <= cost <= MAX_COST else valid_cost(cost)
        now = self._tick()
        levels = self._plan.find(attributes)
        if len(levels) == 1:
            level = levels[0]
            key = level.key_of(attributes)
            decision = level.keyspace_of(key).check(key, tokens, now)
            if not decision.allowed and self._observer is not None:
                self._observe_denial(decision.policy, key)
            return decision
        return self._spend(keys_of(levels, attributes), tokens, now)

    def peek(self, attributes: dict[str, str], cost: SupportsIndex = 1) -> Decision:
        """What `check` would answer; nothing is spent."""
        tokens = cost if type(cost) is int and 0 <= cost <= MAX_COST else valid_cost(cost)
        now = self._tick()
        return self._ask(self._keys_for(attributes), tokens, now)

    def refund(self, attributes: dict[str, str], cost: SupportsIndex) -> Decision:
        """Give cost back to all applicable limits; the state of affairs afterwards."""
        tokens = valid_cost(cost)
        now = self._tick()
        keys = self._keys_for(attributes)
        for keyspace, key in keys:
            keyspace.refund(key, tokens, now, now)
        return self._ask(keys, 0, now)

    def reserve(
        self, attributes: dict[str, str], cost: SupportsIndex, ttl_ns: SupportsIndex
    ) -> Reservation:
        """Set cost aside until it is committed, released, or ``ttl_ns`` has passed.

        Raises:
            InvalidCost: the cost is negative, huge, or no whole number.
            InvalidInput: the ttl is not above zero, or longer than 366 days.
            TooManyReservations: when too many holds are open.
        """
        tokens, ttl = valid_cost(cost), valid_ttl(ttl_ns)
        now = self._tick()
        self._book.require_room()
        keys = self._keys_for(attributes)
        decision = self._spend(keys, tokens, now)
        if not decision.allowed:
            return Reservation("", decision, now)
        return Reservation(self._book.open(keys, tokens, now, ttl), decision, now + ttl)

    def commit(self, reservation_id: str, cost: SupportsIndex | None = None) -> Decision:
        """Settle a hold at its real cost (the reserved one when None); the rest is given back.

        A cost above the hold is charged as far as the limits have it: the work was done. The permits of
        a concurrency limit are given back in any case.

        Raises:
            InvalidCost: the cost is negative, huge, or no whole number.
            UnknownReservation: it was settled, has expired, or never was.
        """
        actual = None if cost is None else valid_cost(cost)
        now = self._tick()
        hold = self._book.close(reservation_id, now)
        hold.settle(actual, now)
        return self._ask(hold.keys, 0, now)

    def release(self, reservation_id: str) -> Decision:
        """Give a whole hold back.

        Raises:
            UnknownReservation: it was settled, has expired, or never was.
        """
        return self.commit(reservation_id, 0)

    # Decisions that may have to be waited for -----------------------------------------------------

    def begin_check(
        self, attributes: dict[str, str], cost: SupportsIndex = 1
    ) -> Decision | Pending[Decision]:
        """`check`, where limits are shared with other nodes: the answer, or one that is on its way."""
        sharing = self._sharing
        if sharing is None:
            return self.check(attributes, cost)
        tokens = cost if type(cost) is int and 0 <= cost <= MAX_COST else valid_cost(cost)
        now = self._tick()
        levels = self._plan.find(attributes)
        if len(levels) == 1:
            level = levels[0]
            key = level.key_of(attributes)
            keyspace = level.keyspace_of(key)
            shared = keyspace.shared
            if shared is None:
                decision = keyspace.check(key, tokens, now)
                if not decision.allowed and self._observer is not None:
                    self._observe_denial(decision.policy, key)
                return decision
            if tokens > 0:
                taken = sharing.take(shared, key, tokens, now)
                if taken is not None:
                    return taken
        keys = keys_of(levels, attributes)
        if not is_shared(keys):
            return self._spend(keys, tokens, now)
        if tokens == 0:
            return sharing.holds.peek(keys, 0, now)
        return sharing.check(keys, tokens, now)

    def begin_peek(
        self, attributes: dict[str, str], cost: SupportsIndex = 1
    ) -> Decision | Pending[Decision]:
        """`peek`, likewise."""
        sharing = self._sharing
        if sharing is None:
            return self.peek(attributes, cost)
        tokens = cost if type(cost) is int and 0 <= cost <= MAX_COST else valid_cost(cost)
        now = self._tick()
        keys = self._keys_for(attributes)
        if not is_shared(keys):
            return self._ask(keys, tokens, now)
        return sharing.holds.peek(keys, tokens, now)

    def begin_refund(
        self, attributes: dict[str, str], cost: SupportsIndex
    ) -> Decision | Pending[Decision]:
        """`refund`, likewise."""
        sharing = self._sharing
        if sharing is None:
            return self.refund(attributes, cost)
        tokens = valid_cost(cost)
        now = self._tick()
        keys = self._keys_for(attributes)
        if not is_shared(keys):
            return self.refund(attributes, cost)
        return sharing.holds.refund(keys, tokens, now)

    def begin_reserve(
        self, attributes: dict[str, str], cost: SupportsIndex, ttl_ns: SupportsIndex
    ) -> Reservation | Pending[Reservation]:
        """`reserve`, likewise. Holds on shared limits are in the store, and may be settled on any node."""
        sharing = self._sharing
        if sharing is None:
            return self.reserve(attributes, cost, ttl_ns)
        tokens, ttl = valid_cost(cost), valid_ttl(ttl_ns)
        now = self._tick()
        keys = self._keys_for(attributes)
        if not is_shared(keys):
            return self.reserve(attributes, cost, ttl_ns)
        self._book.require_room()
        return sharing.holds.reserve(keys, tokens, now, ttl)

    def begin_commit(
        self, reservation_id: str, cost: SupportsIndex | None = None
    ) -> Decision | Pending[Decision | HeadgateError]:
        """`commit`, likewise. An error that comes later comes as a value: `UnknownReservation`."""
        sharing = self._sharing
        if sharing is None or not sharing.holds.owns(reservation_id):
            return self.commit(reservation_id, cost)
        actual = None if cost is None else valid_cost(cost)
        return sharing.holds.commit(reservation_id, actual, self._tick())

    def tier(self, attributes: dict[str, str]) -> int:
        """How important a request is, by the policies that apply to it; see `headgate.priority`.

        Normal is what a policy says that was told nothing, and has no voice. Of the others the most
        important counts.
        """
        most: i64 = TIERS
        for level in self._plan.find(attributes):
            if level.tier != DEFAULT_TIER and level.tier < most:
                most = level.tier
        return DEFAULT_TIER if most == TIERS else most

    # Read-outs -----------------------------------------------------------------------------------

    def usage(self, attributes: dict[str, str]) -> list[Usage]:
        """For each applicable limit, what its key has spent and has left; nothing is spent."""
        now = self._tick()
        return [Usage(keyspace, key, now) for keyspace, key in self._keys_for(attributes)]

    def stats(self) -> EngineStats:
        """Counters of the table, the policies and the reservations."""
        policies = [
            PolicyStats(installed.policy.name, level.keyspaces())
            for installed in self._policies.installed()
            for level in installed.levels
        ]
        return EngineStats(self.table.stats(), policies, len(self._book), self.unmatched)

    def snapshot(self) -> dict[str, Any]:
        """All counters as plain data, in wall time; open holds are left as spent."""
        now = self._tick()
        return write_snapshot(self._policies.keyspaces(), now, self.clock.wall_offset_ns)

    def restore(self, snapshot: object) -> int:
        """Take over the counters of a snapshot, for the limits that are still the same.

        Returns:
            How many keys were taken over. A key that was used since is left as it is.

        Raises:
            InvalidInput: the snapshot is not one; nothing of it was taken over.
        """
        now = self._tick()
        offset = self.clock.wall_offset_ns
        taken = 0
        for keyspace, key, state in read_snapshot(snapshot, self._policies.keyspaces(), offset):
            taken += keyspace.adopt(key, state, now)
        return taken

    # Inside --------------------------------------------------------------------------------------

    def _tick(self) -> i64:
        """The time, with the holds that are due by now released."""
        now: i64 = self._now()
        if len(self._book) > 0:
            self._book.expire(now)
        return now

    def _keys_for(self, attributes: dict[str, str]) -> list[tuple[Keyspace, str]]:
        return keys_of(self._plan.find(attributes), attributes)

    def _ask(self, keys: list[tuple[Keyspace, str]], cost: i64, now: i64) -> Decision:
        if len(keys) == 0:
            return self._unmatched_decision()
        return decide(self.table, keys, cost, now, False)

    def _spend(self, keys: list[tuple[Keyspace, str]], cost: i64, now: i64) -> Decision:
        if len(keys) == 0:
            self.unmatched += 1
            return self._unmatched_decision()
        decision = decide(self.table, keys, cost, now, True)
        if not decision.allowed and self._observer is not None:
            levels = decision.levels or (decision,)
            for place, (_, key) in enumerate(keys):
                if not levels[place].allowed:
                    self._observe_denial(levels[place].policy, key)
        return decision

    def _unmatched_decision(self) -> Decision:
        wait = 0 if self._admit_unmatched else NEVER
        return Decision(self._admit_unmatched, 0, 0, wait, 0, 0, "", 0)

    def _observe_denial(self, policy: str, key: str) -> None:
        if self._observer is None:
            return
        try:
            self._observer.denied(policy, key)
        except Exception:  # noqa: BLE001 - whatever it is, it must not reach the request
            _log.exception("the denial observer raised and was removed")
            self._observer = None
