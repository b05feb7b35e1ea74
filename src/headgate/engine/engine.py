"""The engine: the limits of all policies that apply to a request, decided together.

All levels admit, or nothing is consumed anywhere (A9). The engine is owned by one thread (the service's
loop); it takes no lock of its own.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, final

from headgate.decision import NEVER, Decision
from headgate.engine.plan import Plan, PlannedLevel, compose_key
from headgate.engine.reservations import Hold, Reservation, ReservationBook
from headgate.engine.stats import EngineStats, PolicyStats, Usage
from headgate.engine.table import DEFAULT_MAX_KEYS, KeyedTable, Keyspace, longer_wait

if TYPE_CHECKING:
    from mypy_extensions import i64

    from headgate.clock import Clock
    from headgate.engine.ports import DenialObserver
    from headgate.policy.model import Level, LimitSpec, Policy

__all__ = ["Engine"]

_log = logging.getLogger("headgate.engine")
DEFAULT_MAX_RESERVATIONS: Final = 100_000
SNAPSHOT_VERSION: Final = 1


@final
class _Installed:
    """A policy and the levels that it was compiled into."""

    def __init__(self, policy: Policy, levels: list[PlannedLevel]) -> None:
        self.policy = policy
        self.levels = levels


@final
class Engine:
    """Policies in, decisions out.

    Args:
        clock: gives the time.
        max_keys: how many keys are kept in all (see `headgate.engine.table`).
        admit_unmatched: what a request gets that no policy applies to.
        max_reservations: how many holds may be open.
        observer: is told of denials; it can neither slow nor break a decision.
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
        self._plan = Plan()
        self._installed: dict[str, _Installed] = {}
        self._next_order = 0

    # Policies ------------------------------------------------------------------------------------

    def policies(self) -> list[Policy]:
        """All policies, in the order in which they were first set."""
        return [installed.policy for installed in self._installed.values()]

    def policy(self, name: str) -> Policy | None:
        """One policy, or None."""
        installed = self._installed.get(name)
        return None if installed is None else installed.policy

    def set_policy(self, policy: Policy) -> None:
        """Put a policy in force, in place of the one of the same name.

        Counters go on: a limit that did not change keeps its states, and the keys of one that did
        carry over what they had spent.
        """
        before = self._installed.get(policy.name)
        levels: list[PlannedLevel] = []
        if policy.enabled:
            levels = [self._compile(level, before) for level in policy.levels]
        for level in levels:
            self._plan.add(level)
        self._installed[policy.name] = _Installed(policy, levels)
        if before is not None:
            self._retire(before, levels)

    def remove_policy(self, name: str) -> bool:
        """Put a policy out of force; False when there is none of that name."""
        installed = self._installed.pop(name, None)
        if installed is None:
            return False
        self._retire(installed, [])
        return True

    # Decisions -----------------------------------------------------------------------------------

    def check(self, attributes: dict[str, str], cost: int = 1) -> Decision:
        """Decide, and spend when all applicable limits admit.

        Args:
            attributes: dimension -> value.
            cost: tokens, >= 0; 0 only asks.
        """
        now: i64 = self._now()
        if len(self._book) > 0:
            self._book.expire(now)
        levels = self._plan.find(attributes)
        if len(levels) == 1:
            level = levels[0]
            key = level.key_of(attributes)
            decision = level.keyspace_of(key).check(key, cost, now)
            if not decision.allowed and self._observer is not None:
                self._observe_denial(decision.policy, key)
            return decision
        return self._decide(self._keys_of(levels, attributes), cost, now, spend=True)

    def peek(self, attributes: dict[str, str], cost: int = 1) -> Decision:
        """What `check` would answer; nothing is spent."""
        now: i64 = self._now()
        self._book.expire(now)
        return self._decide(self._keys_for(attributes), cost, now, spend=False)

    def refund(self, attributes: dict[str, str], cost: int) -> Decision:
        """Give cost back to all applicable limits; the state of affairs afterwards."""
        now: i64 = self._now()
        self._book.expire(now)
        keys = self._keys_for(attributes)
        for keyspace, key in keys:
            keyspace.refund(key, cost, now, now)
        return self._decide(keys, 0, now, spend=False)

    def reserve(self, attributes: dict[str, str], cost: int, ttl_ns: int) -> Reservation:
        """Set cost aside until it is committed, released, or ``ttl_ns`` has passed.

        Raises:
            TooManyReservations: when too many holds are open.
        """
        now: i64 = self._now()
        self._book.expire(now)
        self._book.require_room()
        keys = self._keys_for(attributes)
        decision = self._decide(keys, cost, now, spend=True)
        if not decision.allowed:
            return Reservation("", decision, now)
        hold = Hold(keys, cost, now, now + ttl_ns)
        return Reservation(self._book.open(hold), decision, hold.expires_at_ns)

    def commit(self, reservation_id: str, cost: int | None = None) -> Decision:
        """Settle a hold at its real cost (the reserved one when None); the rest is given back.

        A cost above the hold is charged as far as the limits have it: the work was done.

        Raises:
            UnknownReservation: it was settled, has expired, or never was.
        """
        now: i64 = self._now()
        self._book.expire(now)
        hold = self._book.close(reservation_id)
        hold.settle(cost, now)
        return self._decide(hold.keys, 0, now, spend=False)

    def release(self, reservation_id: str) -> Decision:
        """Give a whole hold back.

        Raises:
            UnknownReservation: it was settled, has expired, or never was.
        """
        return self.commit(reservation_id, 0)

    # Read-outs -----------------------------------------------------------------------------------

    def usage(self, attributes: dict[str, str]) -> list[Usage]:
        """For each applicable limit, what its key has spent and has left; nothing is spent."""
        now: i64 = self._now()
        self._book.expire(now)
        return [Usage(keyspace, key, now) for keyspace, key in self._keys_for(attributes)]

    def stats(self) -> EngineStats:
        """Counters of the table, the policies and the reservations."""
        policies = [
            PolicyStats(name, level.keyspaces())
            for name, installed in self._installed.items()
            for level in installed.levels
        ]
        return EngineStats(self.table.stats(), policies, len(self._book), self.unmatched)

    def snapshot(self) -> dict[str, Any]:
        """All counters as plain data, in wall time; open holds are left as spent."""
        now: i64 = self._now()
        self._book.expire(now)
        offset = self.clock.wall_offset_ns
        limits = {
            identity: keyspace.dump(now, offset)
            for identity, keyspace in self._keyspaces_by_identity().items()
            if len(keyspace) > 0
        }
        return {"version": SNAPSHOT_VERSION, "limits": limits}

    def restore(self, snapshot: dict[str, Any]) -> int:
        """Take over the counters of a snapshot, for the limits that are still the same.

        Returns:
            How many keys were taken over.

        Raises:
            ValueError: the snapshot is not one; nothing may be assumed of what was taken over.
        """
        now: i64 = self._now()
        if snapshot.get("version") != SNAPSHOT_VERSION:
            message = f"a snapshot of version {SNAPSHOT_VERSION} is needed"
            raise ValueError(message)
        taken = 0
        keyspaces = self._keyspaces_by_identity()
        for identity, states in snapshot["limits"].items():
            keyspace = keyspaces.get(identity)
            if keyspace is not None:
                for key, values in states.items():
                    taken += keyspace.load(key, values, now, self.clock.wall_offset_ns)
        return taken

    # Inside --------------------------------------------------------------------------------------

    def _compile(self, level: Level, before: _Installed | None) -> PlannedLevel:
        earlier: dict[str, Keyspace] = {}
        if before is not None:
            for planned in before.levels:
                for keyspace in planned.keyspaces():
                    earlier[keyspace.place] = keyspace
        overrides: dict[str, Keyspace] = {}
        for override in level.overrides:
            values = dict(zip(level.dimensions, override.values, strict=True))
            key = compose_key(list(level.dimensions), values)
            overrides[key] = self._keyspace(level, override.spec, "=" + key, earlier)
        own = self._keyspace(level, level.spec, "", earlier)
        self._next_order += 1
        return PlannedLevel(self._next_order, level.dimensions, level.match, own, overrides)

    def _keyspace(
        self, level: Level, spec: LimitSpec, suffix: str, earlier: dict[str, Keyspace]
    ) -> Keyspace:
        """The keyspace of a limit: the one that it had, or a new one that follows the one it had."""
        place = f"{level.name}[{','.join(level.dimensions)}]{suffix}"
        settings = spec.fingerprint()
        before = earlier.get(place)
        if before is not None and before.settings == settings:
            return before
        algorithm = spec.build(self.clock.wall_offset_ns)
        keyspace = Keyspace(self.table, algorithm, level.name, place, settings)
        keyspace.predecessor = before
        return keyspace

    def _retire(self, before: _Installed, levels: list[PlannedLevel]) -> None:
        """Take levels out of the plan, and drop the keys of limits that nothing goes on with."""
        kept: set[Keyspace] = set()
        for level in levels:
            for keyspace in level.keyspaces():
                kept.add(keyspace)
                if keyspace.predecessor is not None:
                    kept.add(keyspace.predecessor)
        for level in before.levels:
            self._plan.remove(level)
            for keyspace in level.keyspaces():
                if keyspace not in kept:
                    keyspace.retire()

    def _keys_for(self, attributes: dict[str, str]) -> list[tuple[Keyspace, str]]:
        return self._keys_of(self._plan.find(attributes), attributes)

    def _keys_of(
        self, levels: list[PlannedLevel], attributes: dict[str, str]
    ) -> list[tuple[Keyspace, str]]:
        keys: list[tuple[Keyspace, str]] = []
        for level in levels:
            key = level.key_of(attributes)
            keys.append((level.keyspace_of(key), key))
        return keys

    def _decide(
        self, keys: list[tuple[Keyspace, str]], cost: i64, now: i64, *, spend: bool
    ) -> Decision:
        """Ask all limits; spend on all when all admit and ``spend``, on none otherwise."""
        if not keys:
            return self._decide_unmatched()
        longest: i64 = 0
        waits: list[tuple[i64, i64]] = []
        for keyspace, key in keys:
            wait = keyspace.wait(key, cost, now)
            waits.append((wait, keyspace.delay(key, cost, now)))
            longest = longer_wait(longest, wait)
        if spend:
            self._settle(keys, waits, cost, now, admit=longest == 0)
        decisions: list[Decision] = []
        for place, (keyspace, key) in enumerate(keys):
            wait, delay = waits[place]
            decisions.append(keyspace.describe(key, wait, delay, now))
        return combine(decisions)

    def _settle(
        self,
        keys: list[tuple[Keyspace, str]],
        waits: list[tuple[i64, i64]],
        cost: i64,
        now: i64,
        *,
        admit: bool,
    ) -> None:
        """Count the answer, and spend when it is yes."""
        for place, (keyspace, key) in enumerate(keys):
            wait, _ = waits[place]
            if admit:
                keyspace.admitted += 1
                if cost > 0:
                    keyspace.consume(key, cost, now)
            elif wait != 0:
                keyspace.denied += 1
                self._observe_denial(keyspace.name, key)

    def _decide_unmatched(self) -> Decision:
        self.unmatched += 1
        wait = 0 if self._admit_unmatched else NEVER
        return Decision(self._admit_unmatched, 0, 0, wait, 0, 0, "", 0)

    def _observe_denial(self, policy: str, key: str) -> None:
        if self._observer is None:
            return
        try:
            self._observer.denied(policy, key)
        except Exception:  # noqa: BLE001 - whatever an observer raises, the decision stands
            _log.exception("the denial observer raised and was removed")
            self._observer = None

    def _keyspaces_by_identity(self) -> dict[str, Keyspace]:
        return {
            f"{keyspace.place} {keyspace.settings}": keyspace
            for installed in self._installed.values()
            for level in installed.levels
            for keyspace in level.keyspaces()
        }


def combine(decisions: list[Decision]) -> Decision:
    """One answer for several limits.

    It allows when all do. It speaks of the limit that decided: the one with the longest wait for a no,
    the one with the least left for a yes; waits and delays are the longest of all.
    """
    if len(decisions) == 1:
        return decisions[0]
    wait: i64 = 0
    delay: i64 = 0
    deciding = decisions[0]
    for decision in decisions:
        delay = max(delay, decision.delay_ns)
        if _decides_over(decision, deciding):
            deciding = decision
        wait = longer_wait(wait, decision.retry_after_ns)
    return Decision(
        wait == 0,
        deciding.limit,
        deciding.remaining,
        wait,
        deciding.reset_after_ns,
        delay if wait == 0 else 0,
        deciding.policy,
        deciding.window_ns,
        tuple(decisions),
    )


def _decides_over(one: Decision, other: Decision) -> bool:
    if one.retry_after_ns != other.retry_after_ns:
        return longer_wait(one.retry_after_ns, other.retry_after_ns) == one.retry_after_ns
    return one.remaining < other.remaining
