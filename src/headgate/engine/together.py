"""Several limits, decided as one: all admit, or nothing is spent anywhere (A9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.decision import NEVER, Decision
from headgate.engine.keyspace import FREE, FULL

if TYPE_CHECKING:
    from mypy_extensions import i64

    from headgate.engine.keyspace import Keyspace
    from headgate.engine.table import KeyedTable

__all__ = ["combine", "decide"]


def decide(
    table: KeyedTable,
    keys: list[tuple[Keyspace, str]],
    cost: i64,
    now: i64,
    spend: bool,
) -> Decision:
    """Ask all limits; spend on all when all admit and ``spend``, on none otherwise.

    Args:
        table: where the keys are kept.
        keys: at least one, each limit at most once.
        cost: tokens.
        now: nanoseconds.
        spend: False only asks.
    """
    states: list[object] = []
    new: i64 = 0
    for keyspace, key in keys:
        state = keyspace.find(key)
        states.append(state)
        if state is None and not keyspace.tracks(key):
            new += 1
    # Either all new keys are kept or none, so that no answer depends on which of them came first.
    kept = new == 0 or table.can_keep_all(new, keys, now)
    if not kept:
        states = [keyspace.state_of(key, False) for keyspace, key in keys]
    waits: list[i64] = []
    delays: list[i64] = []
    longest: i64 = 0
    for place, (keyspace, _) in enumerate(keys):
        algorithm = keyspace.algorithm
        wait = algorithm.wait(states[place], cost, now)
        waits.append(wait)
        delays.append(algorithm.delay(states[place], cost, now))
        longest = _longer(longest, wait)
    if spend:
        _count(keys, waits, longest == 0)
        if longest == 0 and cost > 0:
            _spend(table, keys, states, cost, now, new, kept)
        if not kept:
            table.overflow(new)
    decisions: list[Decision] = []
    for place, (keyspace, _) in enumerate(keys):
        decisions.append(keyspace.answer(states[place], waits[place], delays[place], now))
    return combine(decisions)


def combine(decisions: list[Decision]) -> Decision:
    """One answer for several limits.

    It allows when all do. It speaks of the limit that decided: the one with the longest wait for a no,
    the one with the least left for a yes; waits and delays are the longest of all. It is degraded when one
    of them is.
    """
    if len(decisions) == 1:
        return decisions[0]
    wait: i64 = 0
    delay: i64 = 0
    deciding = decisions[0]
    degraded = False
    for decision in decisions:
        degraded = degraded or decision.degraded
        delay = max(delay, decision.delay_ns)
        if _decides_over(decision, deciding):
            deciding = decision
        wait = _longer(wait, decision.retry_after_ns)
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
        degraded,
    )


def _spend(
    table: KeyedTable,
    keys: list[tuple[Keyspace, str]],
    states: list[object],
    cost: i64,
    now: i64,
    new: i64,
    kept: bool,
) -> None:
    """Spend on all; ``states`` are replaced by what they are afterwards."""
    if kept:
        table.make_room(new, keys, now)
    room: i64 = FREE if kept else FULL
    for place, (keyspace, key) in enumerate(keys):
        states[place] = keyspace.spend(key, states[place], cost, now, room)


def _count(keys: list[tuple[Keyspace, str]], waits: list[i64], admitted: bool) -> None:
    for place, (keyspace, _) in enumerate(keys):
        if admitted:
            keyspace.admitted += 1
        elif waits[place] != 0:
            keyspace.denied += 1


def _decides_over(one: Decision, other: Decision) -> bool:
    if one.retry_after_ns != other.retry_after_ns:
        return _longer(one.retry_after_ns, other.retry_after_ns) == one.retry_after_ns
    return one.remaining < other.remaining


def _longer(one: i64, other: i64) -> i64:
    """The longer of two waits; `NEVER` is the longest."""
    if one == NEVER or other == NEVER:
        return NEVER
    if one > other:
        return one
    return other
