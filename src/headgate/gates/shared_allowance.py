"""A limit over many nodes for gates that answer at once: `Allowance`, kept stocked in the background.

For gates that threads and event loops ask alike, and that must keep neither waiting. Whoever may wait for the
store has better means: requests to the service, and limiters.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal, final

from headgate.clock import NS_PER_MS, NS_PER_SECOND
from headgate.engine.allowance import FIRST_PATIENCE, Allowance, AllowanceTerms
from headgate.engine.counters import Counter, CounterStore
from headgate.errors import HeadgateError, InvalidInput
from headgate.gates.names import valid_name
from headgate.policy.model import LimitSpec
from headgate.rate import Rate
from headgate.wiring.counters import open_counters

if TYPE_CHECKING:
    from concurrent.futures import Future

    from headgate.clock import Clock

__all__ = ["SharedAllowance"]

_log = logging.getLogger("headgate.cluster")

_MOST_LIMIT: Final = 1_000_000
"""The store keeps a log, of batches; but in the worst of cases each is of one."""
_LEAST_HOLD_NS: Final = 20 * NS_PER_MS
_LONGEST_HOLD_NS: Final = NS_PER_SECOND
_HOLD_PART: Final = 10
_MEETINGS_NS: Final = NS_PER_SECOND


@final
class SharedAllowance:
    """At most ``limit`` in any window, of all who give the same name, limit, window and store.

    Args:
        name: of the limit.
        limit: per window, of all nodes together.
        window_ns: its length.
        shared: the address of a Redis or Valkey, or a `CounterStore`.
        consistency: ``strict`` never admits more than the limit in any window, and up to a tenth less of it;
            ``leased`` admits all of it, and in any one window up to ``share`` more.
        share: of the limit, how much all nodes together may hold ahead.
        timeout_ns: after which the store counts as lost.
        nodes: how many nodes there are at least, by which this node's share is worked out when the store is
            lost.
        memory_ns: the longest pause of a caller that comes back.
        cluster: those of one name count together.
        clock: gives the time.

    Raises:
        InvalidInput: a setting makes no sense.
    """

    def __init__(  # noqa: PLR0913 - what is promised, and how
        self,
        name: str,
        limit: int,
        window_ns: int,
        *,
        shared: object,
        consistency: Literal["strict", "leased"],
        share: float,
        timeout_ns: int,
        nodes: int,
        memory_ns: int,
        cluster: str,
        clock: Clock,
    ) -> None:
        if consistency not in {"strict", "leased"}:
            raise InvalidInput(f"consistency must be strict or leased, got {consistency!r:.100}")
        if limit > _MOST_LIMIT:
            raise InvalidInput(f"the limit must be at most {_MOST_LIMIT} when shared, got {limit}")
        self.name = valid_name("name", name)
        hold_ns = min(max(window_ns // _HOLD_PART, _LEAST_HOLD_NS), _LONGEST_HOLD_NS)
        counted_ns = window_ns + hold_ns if consistency == "strict" else window_ns
        spec = LimitSpec("sliding_window_log", Rate(limit, counted_ns))
        identity = f"loop:{consistency}:{limit}:{window_ns}"
        self.bound = max(1, int(share * limit))
        self.node = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        terms = AllowanceTerms(limit, window_ns, hold_ns, self.bound, timeout_ns, nodes, memory_ns)
        self._now = clock.now_ns
        self._timeout = timeout_ns / NS_PER_SECOND
        self._allowance = Allowance(
            Counter(identity, 1, spec, name), name, self.node, terms, self._now()
        )
        self._level = (Counter(identity, 1, spec, name), name)
        self._lock = threading.RLock()
        self._nudged = False
        self._closing = False
        self._patience = FIRST_PATIENCE * self._timeout
        self._news: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._link = open_counters(shared, cluster)
        self._work: Future[None] = self._link.begin(self._keep_stocked(self._link.store))

    @property
    def is_up(self) -> bool:
        """Whether the store answered when it was asked last."""
        with self._lock:
            return not self._allowance.is_lost(self._now())

    def take(self, count: int) -> bool:
        """Take so many if all of them are here; otherwise take nothing. Never waits."""
        now = self._now()
        with self._lock:
            taken = self._allowance.take(count, now)
            nudges = not self._nudged and self._allowance.is_wanting(now)
            self._nudged = self._nudged or nudges
        if nudges:
            self._nudge()
        return taken

    def room(self) -> int:
        """How many could be taken at once."""
        now = self._now()
        with self._lock:
            found = self._allowance.room(now)
            nudges = not self._nudged and self._allowance.is_wanting(now)
            self._nudged = self._nudged or nudges
        if nudges:
            self._nudge()
        return found

    def wait_ns(self, count: int) -> int:
        """Nanoseconds after which asking for so many is worth it again."""
        with self._lock:
            return self._allowance.wait(count, self._now())

    def utilization(self) -> float:
        """The share of the limit that is taken, 0 to 1, as far as it is known here."""
        with self._lock:
            return self._allowance.utilization(self._now())

    def close(self) -> None:
        """Give back what was drawn, and let go of the store; waits for it for the time-out at most."""
        if self._closing:
            return
        self._closing = True
        self._nudge()
        with suppress(HeadgateError, TimeoutError):
            self._work.result(2 * self._timeout)
        self._link.close()

    # Inside, on the link's loop -----------------------------------------------------------------------

    def _nudge(self) -> None:
        loop, news = self._loop, self._news
        if loop is not None and news is not None:
            with suppress(RuntimeError):  # the loop was closed this very moment
                loop.call_soon_threadsafe(news.set)

    async def _keep_stocked(self, store: CounterStore) -> None:
        self._loop, self._news = asyncio.get_running_loop(), asyncio.Event()
        met_ns = self._now() - _MEETINGS_NS
        while not self._closing:
            self._news.clear()
            now = self._now()
            with self._lock:
                self._nudged = False
                due = self._allowance.due(now)
            if due == 0:
                await self._draw(store)
                if not 0 <= now - met_ns < _MEETINGS_NS:
                    met_ns = now
                    await self._meet(store)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(None if due is None else due / NS_PER_SECOND):
                    await self._news.wait()
        with self._lock:
            questions = self._allowance.give_back(self._now())
        with suppress(Exception):  # then it lapses
            async with asyncio.timeout(self._timeout):
                await store.ask(questions)

    async def _draw(self, store: CounterStore) -> None:
        allowance = self._allowance
        with self._lock:
            questions = allowance.draw(self._now())
        try:
            async with asyncio.timeout(self._patience):
                answers = await store.ask(questions)
        except Exception as error:  # noqa: BLE001 - whatever a store fails with, this node goes on
            # Nobody counts on an answer from now on; the next one may need a connection and a script again.
            self._patience = FIRST_PATIENCE * self._timeout
            with self._lock:
                news = allowance.failed(self._now())
            if news:
                _log.warning("%r goes by this node's share of its limit: %r", self.name, error)
            return
        self._patience = self._timeout
        with self._lock:
            back = allowance.heard(answers, self._now())
        if back:
            _log.warning("%r is shared again", self.name)

    async def _meet(self, store: CounterStore) -> None:
        """Learn which nodes there are, for the time when they cannot be asked."""
        with suppress(Exception):  # the next question will fail as well, and be told of
            async with asyncio.timeout(self._timeout):
                leases = await store.leases(*self._level)
            with self._lock:
                self._allowance.met([node for node, _, _ in leases], self._now())
