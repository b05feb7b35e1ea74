"""``CL.THROTTLE``: limits that the caller brings along, instead of naming a policy.

Each distinct (max_burst, count, period) is one limit with keys of its own, kept in the engine's table, so
that one bound holds for all. How many distinct limits are kept is bounded too: a limit that has been idle
for so long that all of its keys are full again is dropped, and with it nothing is lost.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final, final

from headgate.algorithms import build
from headgate.clock import NS_PER_SECOND
from headgate.decision import Decision
from headgate.engine.table import Keyspace
from headgate.errors import InvalidCost, InvalidInput, InvalidRate, TooManyLimits
from headgate.policy.model import LimitSpec, Policy
from headgate.rate import MAX_LIMIT, Rate
from headgate.server.resp_late import LateReply
from headgate.server.resp_replies import throttle_reply

if TYPE_CHECKING:
    from mypy_extensions import i64

    from headgate.engine.pending import Pending
    from headgate.engine.ports import DenialObserver
    from headgate.engine.sharing import Sharing
    from headgate.engine.table import KeyedTable

__all__ = ["THROTTLE", "ThrottleBook", "read_cost", "whole_number"]

THROTTLE: Final = "CL.THROTTLE"
"""What stands for these limits where a policy's name would."""

DEFAULT_MAX_LIMITS: Final = 10_000
_LOOKS_AT_CAP: Final = 16
_MAX_DIGITS: Final = 18


@final
class _Limit:
    """One limit, and how long after its last use none of its keys carries information any more."""

    def __init__(self, space: Keyspace, rate: Rate) -> None:
        self.space = space
        self.capacity: i64 = rate.capacity
        self.refill_ns: i64 = -(-rate.capacity * rate.window_ns // rate.limit)
        self.last_used_ns: i64 = 0


@final
class ThrottleBook:
    """The limits in use, by the numbers that the caller sent.

    Args:
        table: where their keys are kept.
        max_limits: how many distinct limits are kept.
        observer: is told of denials.
        sharing: of a node of several processes, which count these limits together; None for one.
    """

    def __init__(
        self,
        table: KeyedTable,
        max_limits: int = DEFAULT_MAX_LIMITS,
        observer: DenialObserver | None = None,
        sharing: Sharing | None = None,
    ) -> None:
        self.table = table
        self._sharing = sharing
        self._max_limits: i64 = max_limits
        self._observer = observer
        self._limits: dict[tuple[bytes, bytes, bytes], _Limit] = {}
        self._admitted: i64 = 0
        self._denied: i64 = 0

    def __len__(self) -> int:
        return len(self._limits)

    def observe_denials(self, observer: DenialObserver | None) -> None:
        """Tell this one of denials from now on; nobody when None."""
        self._observer = observer

    @property
    def admitted(self) -> int:
        """Calls answered yes, peeks left out."""
        return self._admitted

    @property
    def denied(self) -> int:
        """Calls answered no."""
        return self._denied

    def answer(
        self, key: str, numbers: tuple[bytes, bytes, bytes], cost: i64, now: i64
    ) -> bytes | LateReply:
        """Decide, spend when it passes, and put the answer in bytes; a cost of 0 only asks.

        Args:
            key: who is asking.
            numbers: max_burst, count and period, as they came over the wire.
            cost: tokens, >= 0.
            now: nanoseconds.

        Raises:
            InvalidInput: a number is not one, or the limit is outside what can be kept.
            TooManyLimits: too many other limits are in use.
        """
        limit = self._limits.get(numbers)
        if limit is None:
            limit = self._open(numbers, now)
        limit.last_used_ns = now
        if self._sharing is not None:
            return self._ask(self._sharing, limit, key, cost, now)
        if cost == 0:
            return throttle_reply(limit.space.peek(key, cost, now), limit.capacity)
        decision = limit.space.check(key, cost, now)
        if decision.allowed:
            self._admitted += 1
        else:
            self._denied += 1
            if self._observer is not None:
                self._observer.denied(THROTTLE, key)
        return throttle_reply(decision, limit.capacity)

    def dump(self, now: int, wall_offset_ns: int) -> dict[str, dict[str, list[int]]]:
        """The states that carry information, for a snapshot."""
        dumped = {}
        for numbers, limit in self._limits.items():
            states = limit.space.dump(now, wall_offset_ns)
            if states:
                dumped[b" ".join(numbers).decode()] = states
        return dumped

    def load(self, dumped: dict[str, Any], now: int, wall_offset_ns: int) -> int:
        """Take over what `dump` wrote; how many keys that were.

        Raises:
            ValueError: it is not what `dump` wrote.
        """
        taken = 0
        for text, states in dumped.items():
            burst, count, period = text.encode().split(b" ")
            limit = self._open((burst, count, period), now)
            limit.last_used_ns = now
            for key, values in states.items():
                taken += limit.space.load(key, values, now, wall_offset_ns)
        return taken

    def _ask(
        self, sharing: Sharing, limit: _Limit, key: str, cost: i64, now: i64
    ) -> bytes | LateReply:
        """`answer`, with the other processes of the node."""
        space = limit.space
        shared = space.shared
        outcome: Decision | Pending[Decision] | None = None
        if cost == 0:
            outcome = sharing.holds.peek([(space, key)], 0, now)
        elif shared is not None:
            outcome = sharing.take(shared, key, cost, now)
        if outcome is None:
            outcome = sharing.check([(space, key)], cost, now)
        if isinstance(outcome, Decision):
            return self._said(limit, outcome, cost)
        late = LateReply(None, 0)
        outcome.then(lambda decision: late.fill(self._said(limit, decision, cost)))
        return late

    def _said(self, limit: _Limit, decision: Decision, cost: i64) -> bytes:
        """The answer to a question whose denial was told already."""
        if cost > 0:
            if decision.allowed:
                self._admitted += 1
            else:
                self._denied += 1
        return throttle_reply(decision, limit.capacity)

    def _open(self, numbers: tuple[bytes, bytes, bytes], now: i64) -> _Limit:
        rate = read_rate(numbers)
        if len(self._limits) >= self._max_limits:
            self._make_room(now)
        place = b" ".join(numbers).decode()
        space = Keyspace(self.table, build("token_bucket", rate), THROTTLE, f"{THROTTLE} {place}")
        if self._sharing is not None:
            self._sharing.adopt(space, LimitSpec("token_bucket", rate), _as_policy(), 0)
        limit = _Limit(space, rate)
        self._limits[numbers] = limit
        return limit

    def _make_room(self, now: i64) -> None:
        """Drop an idle limit, looking at a few of the oldest; those in use go to the end of the queue."""
        for numbers in list(islice(self._limits, _LOOKS_AT_CAP)):
            limit = self._limits.pop(numbers)
            if now - limit.last_used_ns >= limit.refill_ns:
                if self._sharing is not None:
                    self._sharing.release(limit.space)
                limit.space.retire()
                return
            self._limits[numbers] = limit
        raise TooManyLimits(
            f"at most {self._max_limits} different (max_burst, count, period) may be in use; use fewer, "
            "and tell callers apart by the key",
            max_limits=self._max_limits,
        )


def _as_policy() -> Policy:
    """How these limits are shared: by the processes of one node."""
    return Policy.from_dict(
        {"name": "throttle", "limit": 1, "window": "1s", "consistency": "local"}
    )


def read_rate(numbers: tuple[bytes, bytes, bytes]) -> Rate:
    """The limit that max_burst, count and period describe."""
    burst = whole_number("max_burst", numbers[0])
    count = whole_number("count", numbers[1])
    period = whole_number("period", numbers[2])
    if count == 0 or period == 0:
        name = "count" if count == 0 else "period"
        raise InvalidRate(f"{name} must be >= 1, got 0; to refuse everything, do not ask")
    return Rate(count, period * NS_PER_SECOND, burst + 1)


def read_cost(name: str, raw: bytes) -> int:
    """A cost in tokens.

    Raises:
        InvalidInput: it is no whole number, or more than can be asked for.
    """
    cost = whole_number(name, raw)
    if cost > MAX_LIMIT:
        raise InvalidCost(f"{name} must be <= {MAX_LIMIT}, got {cost}; ask for less at a time")
    return cost


def whole_number(name: str, raw: bytes) -> int:
    """A number in plain digits: one spelling for each, so that no two spellings are two limits.

    Raises:
        InvalidInput: it is none.
    """
    if raw.isdigit() and len(raw) <= _MAX_DIGITS and (raw[0] != 48 or len(raw) == 1):
        return int(raw)
    shown = ascii(raw[:24].decode("utf-8", "replace"))
    raise InvalidInput(
        f"{name} must be a whole number >= 0 of at most {_MAX_DIGITS} digits, got {shown}; "
        "write it in plain digits",
        field=name,
    )
