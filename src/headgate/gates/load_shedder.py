"""The gate that turns work away when there is more than can be done in time, the least important first."""

from __future__ import annotations

import logging
import random
import threading
from typing import TYPE_CHECKING, Final, final
from zlib import crc32

from headgate.backpressure.shedding import load_probability, queue_probability
from headgate.clock import NS_PER_SECOND, SystemClock
from headgate.decision import Decision
from headgate.errors import InvalidInput
from headgate.gates.build import is_atomic_build
from headgate.gates.numbers import valid_call
from headgate.gates.shedder_guard import ShedderGuard
from headgate.gates.shedder_settings import (
    MOST_WAITING,
    ShedderSettings,
    ShedderStats,
    read_load,
    read_queue,
)
from headgate.inputs import MAX_KEY_LENGTH, valid_key
from headgate.priority import PRIORITIES, TIERS, tier_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import SupportsIndex

    from mypy_extensions import i64

    from headgate.clock import Clock
    from headgate.inputs import Text

__all__ = ["LoadShedder"]

_log = logging.getLogger("headgate.shedder")
_NOT_KNOWN: Final = float("nan")
_TIER_OF: Final = {name: tier for tier, name in enumerate(PRIORITIES)}
_HOUR_NS: Final = 3_600 * NS_PER_SECOND


@final
class LoadShedder:
    """Sheds what is too much, by priority.

    >>> shedder = LoadShedder()
    >>> with shedder.guard("high", key="user:1"):
    ...     print("working")
    working

    ``mode`` says by what rule:

    - ``tiered`` lets through what can be done in time, in the order of the priorities. It learns from the
      work that ends; see `headgate.backpressure.tiered_shedder`.
    - ``queue`` sheds from a queue of ``max_queue`` on, with a probability that is 1 at twice that.
    - ``load`` sheds a part of ``(load - threshold) * rate * multiplier[tier]``.
    - ``pressure`` adds that up every 100 ms, for as long as the load is above the threshold.

    ``queue`` and ``load`` are called and say how things stand: the first how much work waits, the second how
    near the limit all is (1.0 at it), such as `LoadMonitor.pressure`. Without a ``queue``, the calls inside
    guards beyond ``seats`` are what waits, and `allow` alone cannot be used: nobody would know when the work
    is over.

    Thread-safe, and safe across asyncio tasks; nothing here waits. A ``queue`` or ``load`` that raises is
    logged once and counts as not known, for which nothing more is shed.

    Args:
        mode: one of the four.
        queue: for ``tiered`` and ``queue``.
        load: for ``load`` and ``pressure``.
        max_queue: of ``queue``, or beyond which ``tiered`` lets nothing in; 300.
        seats: how many calls inside guards are worked on at the same time; 1.
        capacity: how many can be done per second, for ``tiered``; learnt when left out.
        target_delay: seconds of work that ``tiered`` keeps waiting; 0.02.
        threshold: of the load; 0.8.
        rate: see the rules; 0.1.
        multipliers: likewise, one for each priority from critical on, the last one for all after it;
            ``(0.1, 0.5, 1.0)``.
        retry_after: seconds that a refusal names, half of it more or less by chance, so that those who were
            refused together do not come back together.
        name: stands in decisions as the policy.
        clock: gives the time; the system's when left out.
        uniform: gives random numbers in [0, 1).

    Raises:
        InvalidInput: a setting makes no sense, or belongs to another mode.
    """

    def __init__(  # noqa: PLR0913 - four rules have their settings here
        self,
        mode: Text = "tiered",
        *,
        queue: Callable[[], int] | None = None,
        load: Callable[[], float] | None = None,
        max_queue: SupportsIndex | None = None,
        seats: SupportsIndex | None = None,
        capacity: object = None,
        target_delay: object = None,
        threshold: object = None,
        rate: object = None,
        multipliers: Sequence[float] | None = None,
        retry_after: object = 1.0,
        name: Text = "shedder",
        clock: Clock | None = None,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        given = {
            "queue": queue,
            "load": load,
            "max_queue": max_queue,
            "seats": seats,
            "capacity": capacity,
            "target_delay": target_delay,
            "threshold": threshold,
            "rate": rate,
            "multipliers": multipliers,
        }
        self.settings = ShedderSettings.read(mode, name, retry_after, given)
        self.clock: Clock = SystemClock() if clock is None else clock
        self._name: str = self.settings.name
        self._now = self.clock.now_ns
        valid_call("uniform", uniform)
        self._uniform = uniform
        # What they return is checked here, in our words.
        self._queue: Callable[[], object] | None = queue
        self._load: Callable[[], object] | None = load
        self._max_queue: i64 = self.settings.max_queue
        self._seats: i64 = self.settings.seats
        self._retry_ns: float = self.settings.retry_ns
        self._period_ns: i64 = self.settings.period_ns
        self._tiered = self.settings.tiered()
        self._added = self.settings.added()
        self._parts: list[float] = [0.0] * TIERS
        self._arrived: list[int] = [0] * TIERS
        self._shed: list[int] = [0] * TIERS
        self._in_flight: i64 = 0
        self._let_in: i64 = 0
        self._waited: i64 = 0
        self._hour: i64 = 0
        self._started = False
        self._failed = False
        self._last_ns: i64 = 0
        self._lock = threading.RLock()
        # See docs/adr/0004: compiled, a decision runs from its start to its end.
        self._needs_lock = not is_atomic_build()

    def allow(self, priority: object = "normal", key: Text = "") -> Decision:
        """Whether an arrival may pass; it counts either way.

        Args:
            priority: a name or a tier; see `headgate.priority`.
            key: whose it is. While a tier is shed in part, the same users of it pass all hour long; without
                a key it is left to chance.

        Raises:
            InvalidInput: the priority or the key is none, or the shedder has no ``queue`` to look at.
        """
        if self._queue is None and self._load is None:
            raise InvalidInput(
                "allow() alone never learns when the work is over; use guard(), or give the shedder "
                "queue=..., which says how much waits"
            )
        return self._ask(priority, key)

    def guard(self, priority: object = "normal", key: object = "") -> ShedderGuard:
        """One call, as ``with shedder.guard():``, ``async with``, or a decorator of functions.

        Args:
            priority: a name or a tier.
            key: whose it is; for a decorator also a callable, which is given those arguments of the call
                that it asks for by name.

        Raises:
            InvalidInput: the priority or the key is none.
            Overloaded: on entering, when the call is shed.
        """
        return ShedderGuard(self, tier_of(priority), key)

    def refresh(self) -> None:
        """Look at the load or the queue now; `allow` does so itself every 100 ms."""
        waiting = self._waiting()
        load = self._load_now()
        now = self._now()
        with self._lock:
            self._refresh(waiting, load, now)

    @property
    def is_calm(self) -> bool:
        """Whether, at the last look, there was nothing to shed."""
        if self._tiered is not None:
            return self._tiered.rejection_ratio == 0.0
        return max(self._parts) == 0.0

    def parts(self) -> list[float]:
        """For each tier, the part of its arrivals that is being shed; not known under ``tiered``."""
        return list(self._parts)

    def stats(self) -> ShedderStats:
        """What arrived and what was shed so far, and how things stand."""
        tiered = self._tiered
        return ShedderStats(
            arrived=dict(zip(PRIORITIES, self._arrived, strict=True)),
            shed=dict(zip(PRIORITIES, self._shed, strict=True)),
            in_guards=self._in_flight,
            part_shed=max(self._parts) if tiered is None else tiered.rejection_ratio,
            capacity_per_second=None if tiered is None else tiered.capacity_per_second,
        )

    def enter(self, tier: object, key: Text) -> Decision:
        """Decide, as `allow` does, about a call that says `leave` at its end; for `ShedderGuard`."""
        decision = self._ask(tier, key)
        if decision.allowed:
            self._count(1)
        return decision

    def leave(self) -> None:
        """A call that was let in is over; for `ShedderGuard`, once per call."""
        self._count(-1)

    def _count(self, more: i64) -> None:
        # Who leaves twice must not make room for one who is not there.
        if self._needs_lock:
            with self._lock:
                self._in_flight = max(self._in_flight + more, 0)
        else:
            self._in_flight = max(self._in_flight + more, 0)

    def _ask(self, priority: object, key: Text) -> Decision:
        # The ordinary case takes no call; the functions answer what is left over, or refuse it.
        known = _TIER_OF.get(priority) if type(priority) is str else None
        tier: i64 = tier_of(priority) if known is None else known
        name = key if type(key) is str and len(key) <= MAX_KEY_LENGTH else valid_key(key)
        waiting = self._waiting()
        now: i64 = self._now()
        if not self._started or now - self._last_ns >= self._period_ns or now < self._last_ns:
            self.refresh()
        chance: float = self._uniform() if self._sheds(tier, waiting) else 0.0
        if self._needs_lock:
            with self._lock:
                return self._decide(tier, name, waiting, chance)
        return self._decide(tier, name, waiting, chance)

    def _sheds(self, tier: i64, waiting: i64) -> bool:
        """Whether it takes chance to decide."""
        if self._tiered is not None:
            return self._tiered.rejection_ratio > 0.0
        if self._load is None:
            return waiting > self._max_queue
        return self._parts[tier] > 0.0

    def _waiting(self) -> i64:
        """How much waits."""
        if self._queue is not None:
            try:
                asked = self._queue()
            except Exception:  # noqa: BLE001 - what is watched must not take its watcher with it
                self._tell("queue")
                return 0
            return asked if type(asked) is int and 0 <= asked <= MOST_WAITING else read_queue(asked)
        waiting = self._in_flight - self._seats
        return max(waiting, 0)

    def _load_now(self) -> float:
        """The load; NaN when it is not known."""
        if self._load is None:
            return 0.0
        try:
            asked = self._load()
        except Exception:  # noqa: BLE001 - likewise
            self._tell("load")
            return _NOT_KNOWN
        return read_load(asked)

    def _tell(self, source: str) -> None:
        """Log, once, that a source fails."""
        if not self._failed:
            self._failed = True
            _log.exception(
                "the %s of the shedder %r failed; it counts as not known", source, self._name
            )

    def _decide(self, tier: i64, key: str, waiting: i64, chance: float) -> Decision:
        self._arrived[tier] += 1
        if self._passes(tier, key, waiting, chance):
            self._let_in += 1
            left = self._max_queue - waiting
            return Decision(True, self._max_queue, max(left, 0), 0, 0, 0, self._name, 0)
        self._shed[tier] += 1
        jitter: float = self._uniform()
        retry = int(self._retry_ns * (0.5 + jitter))
        return Decision(False, self._max_queue, 0, retry, retry, 0, self._name, 0)

    def _passes(self, tier: i64, key: str, waiting: i64, chance: float) -> bool:
        if self._tiered is not None:
            place: i64 = 0
            if self._tiered.rejection_ratio > 0.0 and len(key) > 0:
                place = crc32(key.encode("utf-8", "surrogatepass"), self._hour)
            return self._tiered.admit(self._tiered.level(tier, place), waiting, chance)
        if self._load is None:
            return not chance < queue_probability(waiting, self._max_queue)
        return not chance < self._parts[tier]

    def _refresh(self, waiting: i64, load: float, now: i64) -> None:
        self._started = True
        self._last_ns = now
        if self._tiered is not None:
            self._hour = (now + self.clock.wall_offset_ns) // _HOUR_NS
            # What is no longer there was completed; this needs nobody to say so.
            there = waiting if self._queue is not None else self._in_flight
            done = self._let_in - (there - self._waited)
            self._tiered.completed(max(done, 0))
            self._let_in = 0
            self._waited = there
            self._tiered.update(waiting, now)
        elif self._added is not None:
            self._added.update(load, now)
            self._parts = self._added.parts
        elif self._load is not None:
            for tier in range(TIERS):
                self._parts[tier] = load_probability(
                    load,
                    self.settings.threshold,
                    self.settings.rate,
                    self.settings.multipliers[tier],
                )
        else:
            part = queue_probability(waiting, self._max_queue)
            self._parts = [part] * TIERS
