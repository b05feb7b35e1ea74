"""The pressure of a whole cluster, and of the services behind this one, as one source (B8)."""

from __future__ import annotations

import logging
import threading
from math import isfinite
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, final

from headgate.backpressure.global_pressure import (
    Publisher,
    Reports,
    effective_pressure,
    outliers,
)
from headgate.clock import NS_PER_MS, SystemClock
from headgate.errors import InvalidInput
from headgate.gates.names import is_number, valid_name
from headgate.inputs import MAX_KEY_LENGTH, whole_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from headgate.backpressure.pressure_header import PressureReport
    from headgate.clock import Clock

__all__ = ["GlobalPressure", "PressureBoard", "PressureNote"]

_log = logging.getLogger("headgate.load")

_MOST_CAPACITY: Final = 1e9


class PressureNote(NamedTuple):
    """What one node tells the others.

    Attributes:
        node: its name.
        pressure: of this node alone.
        capacity: its weight; any unit that all nodes share.
        seq: higher is newer.
    """

    node: str
    pressure: float
    capacity: float
    seq: int


class PressureBoard(Protocol):
    """Where the nodes of a cluster leave notes for each other: a Redis hash, a file, a dictionary.

    A call must not take long; give it a deadline, and raise when that has passed.
    """

    def publish(self, note: PressureNote) -> None:
        """Leave a note in place of the node's last one."""

    def read(self) -> Iterable[PressureNote]:
        """The notes of all nodes; one's own does no harm."""


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

    Call `exchange` about every 100 ms: ``monitor.subscribe(lambda _: cluster.exchange())``. Thread-safe; no
    lock is held while the board or the local source is asked.

    Args:
        node: the name of this node, which no other has.
        local: gives this node's own pressure; `LoadMonitor.pressure` does.
        capacity: what this node can do, in a unit that all nodes share.
        board: where the nodes meet; without one, tell it what you hear by `hear`, and send what
            `note` gives.
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
        board: PressureBoard | None = None,
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
        self._board = board
        self._nodes = Reports()
        self._downstream = Reports()
        self._publisher = Publisher()
        self._seq = 0
        self._lock = threading.Lock()
        self.connected = board is not None

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

    def hear_downstream(self, api: str, report: PressureReport) -> bool:
        """Take in what an API behind this service said in its ``X-Pressure``; False when it was late."""
        with self._lock:
            return self._downstream.take(
                valid_name("api", api),
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
        """Leave a note on the board if one is due, and read the others'.

        A board that fails is logged once, until it works again; until then what is known fades.

        Returns:
            Whether the board worked.
        """
        board = self._board
        if board is None:
            return False
        note = self.note()
        try:
            if note is not None:
                board.publish(note)
            notes = list(board.read())
        except Exception as error:  # noqa: BLE001 - whatever a store fails with, this node goes on
            self._failed()
            if self.connected:
                self.connected = False
                _log.info("the board of pressures failed; this node goes by its own: %r", error)
            return False
        if not self.connected:
            self.connected = True
            _log.info("the board of pressures works again")
        for each in notes:
            self.hear(each)
        return True

    def _failed(self) -> None:
        with self._lock:
            self._publisher.failed()

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
