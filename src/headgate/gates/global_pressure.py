"""The pressure of a whole cluster, and of the services behind this one, as one source (B8)."""

from __future__ import annotations

import logging
import threading
from math import isfinite
from typing import TYPE_CHECKING, Final, NamedTuple, final

from headgate.backpressure.global_pressure import (
    Publisher,
    Reports,
    effective_pressure,
    outliers,
)
from headgate.backpressure.pressure_header import is_believable
from headgate.clock import NS_PER_MS, SystemClock, seconds_to_ns
from headgate.engine.pressures import PressureBoard, PressureFeed, PressureNote
from headgate.errors import InvalidInput
from headgate.gates.names import is_number, valid_name
from headgate.inputs import MAX_KEY_LENGTH, whole_number

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.backpressure.pressure_header import PressureReport
    from headgate.clock import Clock

__all__ = ["GlobalPressure", "PressureBoard", "PressureNote", "open_board"]

_log = logging.getLogger("headgate.load")

_MOST_CAPACITY: Final = 1e9
_MOST_TIMEOUT: Final = 10.0
# A board that hangs takes a twentieth of the time at most: after 50 ms in vain it is left alone for a second.
_PAUSE_FACTOR: Final = 20


class _Errand(NamedTuple):
    """Something to do on the board, and since when."""

    board: PressureBoard
    start: int
    note: PressureNote | None
    live: bool


@final
class GlobalPressure:
    """This node's pressure, raised to the cluster's when the cluster as a whole is in trouble.

    >>> cluster = GlobalPressure("a", local=lambda: 0.4)
    >>> for node, pressure in (("b", 1.5), ("c", 0.3), ("d", 0.4)):
    ...     _ = cluster.hear(PressureNote(node, pressure, capacity=1.0, seq=1))
    >>> cluster.pressure(), cluster.sick()
    (0.4, ['b'])

    `pressure` is ``max(local, mean of all nodes)``, weighted by capacity, and the mean counts only when at
    least 60 % of the nodes are above 0.7: a sick node alone makes nobody else shed. What others told fades to
    the local value once it is stale (1.5 s), by half each second. So with the store gone each node goes on by
    itself. `headgate.backpressure.global_pressure` has the formulas.

    Call `exchange` about every 100 ms: ``monitor.subscribe(lambda _: cluster.exchange())`` in a program of
    threads, a task of ``cluster.run()`` in asyncio. A board that calls notes out is listened to in a thread
    from the first time on, until `close`; while that works the board is asked no more often than there is
    something to tell. Thread-safe; no lock is held while the board or the local source is asked.

    Args:
        node: the name of this node, which no other has.
        local: gives this node's own pressure; `LoadMonitor.pressure` does.
        capacity: what this node can do, in a unit that all nodes share.
        shared: where the nodes meet: the address of a Redis or Valkey, a ``redis.Redis``, or a board of your
            own (`headgate.engine.pressures.PressureBoard`). Left out, tell it what you hear by `hear`, and
            send what `note` gives.
        cluster: the nodes of one name see each other.
        timeout: seconds to wait for the store, above 0 to 10.
        clock: gives the time; the system's when left out.

    Raises:
        InvalidInput: an argument makes no sense.
    """

    def __init__(
        self,
        node: str,
        local: Callable[[], float],
        *,
        capacity: float = 1.0,
        shared: object = None,
        cluster: str = "default",
        timeout: float = 0.05,
        clock: Clock | None = None,
    ) -> None:
        self.node = valid_name("node", node)
        if not callable(local):
            raise InvalidInput(
                f"local must be a callable such as monitor.pressure, got {local!r:.100}"
            )
        if not is_number(capacity) or not 0.0 < capacity <= _MOST_CAPACITY:  # which NaN is not
            raise InvalidInput(
                f"capacity must be above 0 and at most {_MOST_CAPACITY:g}, got {capacity!r:.100}"
            )
        self.clock: Clock = SystemClock() if clock is None else clock
        self.capacity = float(capacity)
        self._local = local
        self._board = open_board(shared, valid_name("cluster", cluster), timeout)
        self._feed = self._board if isinstance(self._board, PressureFeed) else None
        self._following = False
        self._caught_up = False
        self._again_ns: int | None = None
        self._nodes = Reports()
        self._downstream = Reports()
        self._publisher = Publisher()
        self._seq = 0
        self._lock = threading.Lock()
        self.connected = self._board is not None

    def pressure(self) -> float:
        """The pressure to act on."""
        local = self.local()
        others = self._others(local).values()
        return effective_pressure(local, [(local, self.capacity), *others])

    def local(self) -> float:
        """Of this node alone, >= 0."""
        pressure = float(self._local())
        return pressure if isfinite(pressure) and pressure > 0.0 else 0.0

    def nodes(self) -> dict[str, float]:
        """The pressure of each node as far as it is known here, this one's among them."""
        local = self.local()
        told = {name: pressure for name, (pressure, _) in self._others(local).items()}
        return {self.node: local, **told}

    def heard_ns(self, node: str) -> int | None:
        """When a node was last heard, on this clock; None when it never was."""
        with self._lock:
            return self._nodes.heard_ns(node)

    def sick(self) -> list[str]:
        """The other nodes that should get no work for now, because they alone are overloaded."""
        return [name for name in outliers(self.nodes()) if name != self.node]

    def hear(self, note: PressureNote) -> bool:
        """Take another node's note in; False when it is late or cannot be believed."""
        if note.node == self.node or not _is_well_formed(note):
            return False
        with self._lock:
            return self._nodes.take(
                note.node, note.pressure, note.seq, self.clock.now_ns(), note.capacity
            )

    def goodbye(self, node: str) -> bool:
        """Forget a node that left; False when it was not known."""
        with self._lock:
            return self._nodes.remove(node)

    def hear_downstream(self, api: str, report: PressureReport | None) -> bool:
        """Take in what an API behind this service said in its ``X-Pressure``.

        Returns:
            False when it was late, or is nothing that can be believed.
        """
        name = valid_name("api", api)
        if report is None or not is_believable(report):
            return False
        with self._lock:
            return self._downstream.take(
                name,
                report.p,
                report.seq,
                self.clock.now_ns(),
                fresh_ns=report.ttl_ms * NS_PER_MS,
            )

    def forwarded(self, api: str) -> float:
        """What to tell the callers of something that needs this API: the higher one of ours and its own."""
        own = self.pressure()
        with self._lock:
            return max(own, self._downstream.told(api, own, self.clock.now_ns()))

    def note(self) -> PressureNote | None:
        """What to tell the other nodes now; None when nothing is due."""
        local = self.local()
        with self._lock:
            if not self._publisher.due(local, self.clock.now_ns()):
                return None
            # The wall clock, so that a node that starts anew is newer than it was before.
            self._seq = max(self._seq + 1, self.clock.wall_ns() // NS_PER_MS)
            return PressureNote(self.node, local, self.capacity, self._seq)

    def exchange(self) -> bool:
        """Leave a note on the board if one is due, and take in those that were not heard already.

        A board that fails is logged, once until it works again; meanwhile what is known fades. It is left
        alone for twenty times as long as the failure took.

        Returns:
            Whether the board worked.
        """
        found = self._begin()
        return found if isinstance(found, bool) else self._ask(found)

    async def exchange_async(self) -> bool:
        """`exchange`; what has to wait for the store does so in a thread, and not in the event loop."""
        import asyncio  # noqa: PLC0415 - the caller runs in a loop: it is loaded already

        found = self._begin()
        return found if isinstance(found, bool) else await asyncio.to_thread(self._ask, found)

    async def run(self, interval: float = 0.1) -> None:
        """Exchange again and again, this many seconds apart; for a task that is cancelled at the end."""
        while True:
            await self.exchange_async()
            await self.clock.sleep_async(interval)

    def close(self) -> None:
        """Close the connections that were opened here."""
        if self._board is not None:
            self._board.close()

    def _begin(self) -> bool | _Errand:
        """What to do on the board; a bool when there is nothing: whether it works."""
        start = self.clock.now_ns()
        if self._board is None or self._is_pausing(start):
            return False
        live = self._listens()
        note = self.note()
        if note is None and live and self._caught_up:
            return self.connected
        return _Errand(self._board, start, note, live)

    def _ask(self, errand: _Errand) -> bool:
        try:
            notes = list(errand.board.exchange(errand.note))
        except Exception as error:  # noqa: BLE001 - whatever a store fails with, this node goes on
            self._failed(errand.start, error)
            return False
        # What was left before it could be heard has now been read.
        self._caught_up = errand.live
        if not self.connected:
            self.connected = True
            _log.info("the board of pressures works again")
        for each in notes:
            self.hear(each)
        return True

    def _listens(self) -> bool:
        """Whether what the others leave is heard at once."""
        feed = self._feed
        if feed is None:
            return False
        with self._lock:
            begins, self._following = not self._following, True
        if begins:
            feed.follow(self.hear)
        live = feed.live
        self._caught_up = self._caught_up and live
        return live

    def _is_pausing(self, now: int) -> bool:
        again = self._again_ns
        # Longer than it can be only after the clock went back.
        return again is not None and 0 < again - now <= _PAUSE_FACTOR * seconds_to_ns(_MOST_TIMEOUT)

    def _failed(self, start: int, error: Exception) -> None:
        now = self.clock.now_ns()
        self._again_ns = now + _PAUSE_FACTOR * max(0, now - start)
        with self._lock:
            self._publisher.failed()
        if self.connected:
            self.connected = False
            _log.info("the board of pressures failed; this node goes by its own: %r", error)

    def _others(self, local: float) -> dict[str, tuple[float, float]]:
        with self._lock:
            return self._nodes.all(local, self.clock.now_ns())


def _is_well_formed(note: PressureNote) -> bool:
    """It comes from a store, where others may write, too."""
    node: object = note.node
    if not isinstance(node, str) or not 0 < len(node) <= MAX_KEY_LENGTH:
        return False
    numbers = is_number(note.pressure) and is_number(note.capacity)
    return numbers and whole_number(note.seq) is not None


def open_board(shared: object, cluster: str, timeout: float) -> PressureBoard | None:
    """The board that ``shared`` means, as `GlobalPressure` takes it; None for None.

    Raises:
        InvalidInput: it is none, or the time makes no sense.
    """
    if not is_number(timeout) or not 0.0 < timeout <= _MOST_TIMEOUT:
        raise InvalidInput(
            f"timeout must be above 0 and at most {_MOST_TIMEOUT:g} seconds, got {timeout!r:.100}"
        )
    if shared is None or isinstance(shared, PressureBoard):
        return shared
    from headgate.wiring.pressures import open_pressures  # noqa: PLC0415 - few share

    return open_pressures(shared, cluster, seconds_to_ns(timeout))
