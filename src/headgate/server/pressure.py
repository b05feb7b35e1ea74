"""How hard pressed the service is, for those who decide by it and for those who ask it.

What it goes by is how late its event loop is, and nothing else. Shedding makes that better, and whatever
is short (processor time that other programs take, memory that is swapped out) makes it worse. A busy
processor alone is no overload for one loop on one of several: it may be busy, and in time.

In a cluster it is raised to the mean of all nodes when most of them are in trouble; see docs/adr/0114. What
the service says of itself in X-Pressure stays its own, so that who spreads load can tell nodes apart.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, final

from headgate.backpressure.global_pressure import outliers
from headgate.backpressure.pressure_header import format_pressure
from headgate.clock import NS_PER_MS, SystemClock
from headgate.gates.load_monitor import LoadMonitor
from headgate.gates.readings import Reading

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.clock import Clock
    from headgate.gates.global_pressure import GlobalPressure
    from headgate.gates.load_report import LoadReport
    from headgate.server.overload import Overload

__all__ = ["FIELD", "NoReadings", "Pressure", "own_monitor"]

_log = logging.getLogger("headgate.server")

FIELD: Final = b"x-pressure"
_TTL_MS: Final = 1_000
_RENEW_MS: Final = 500
"""A report that has not changed is made new after so long, well before it goes stale."""


@final
class NoReadings:
    """Reads nothing: what is left to a monitor is the lag that it measures itself."""

    def read(self, now_ns: int) -> Reading:
        return Reading()


def own_monitor() -> LoadMonitor:
    """The monitor of a service; by the machine's time, also where a test moves the service's own."""
    return LoadMonitor(readings=NoReadings(), clock=SystemClock())


@final
class Pressure:
    """Takes in what the monitor says, and words it for the header.

    Args:
        overload: sheds by it.
        clock: of the service.

    Attributes:
        field: the value of X-Pressure; the same object until it changes.
        own: the pressure of this node alone.
        admitted: the share of what was asked that was not shed, lately.
        report: what the monitor said last; None before it did.
        followers: called with each new pressure.
    """

    def __init__(self, overload: Overload, clock: Clock) -> None:
        self._overload = overload
        self._clock = clock
        self._asked = 0
        self._measured = self._wall_ms()
        self._shed = 0
        self._now = 0.0
        self._cluster: GlobalPressure | None = None
        self._worded: tuple[float, float, int] = (0.0, 1.0, self._wall_ms())
        self.own = 0.0
        self.admitted = 1.0
        self.report: LoadReport | None = None
        self.followers: list[Callable[[float], object]] = []
        self.field = self._word()

    @property
    def value(self) -> float:
        """The pressure that the service goes by: 0 idle, 1 at the limit."""
        return self._overload.pressure

    def local(self) -> float:
        """What this node alone would shed by now; what it tells the other nodes."""
        return self._now

    def join(self, cluster: GlobalPressure) -> None:
        """Go by the cluster's pressure, too; its local source is `local`."""
        self._cluster = cluster

    def cluster_members(self) -> dict[str, Any] | None:
        """How the nodes stand, as JSON; None for a node on its own.

        ``pressure`` is what the cluster adds up to here, ``nodes`` what each node told, ``sick`` those that
        should get no work for now, and ``connected`` whether the store of pressures answers.
        """
        view = self._cluster
        if view is None:
            return None
        nodes = view.nodes()
        return {
            "node": view.node,
            "pressure": round(view.pressure(), 4),
            "nodes": {name: round(pressure, 4) for name, pressure in sorted(nodes.items())},
            "sick": outliers(nodes),
            "connected": view.connected,
        }

    def observe(self, report: LoadReport) -> None:
        """Hear of a sample; a listener of the monitor.

        What is shed by is the sample or its smoothed value, whichever is lower: a stall that is over is no
        reason to shed, though the smoothed value remembers it, and neither is one that was short.
        """
        self.report = report
        self.tell(report.pressure, min(report.pressure, report.raw))

    def tell(self, pressure: float, now: float | None = None) -> None:
        """Hear of the pressure of this node, and of what it is just now when that is less."""
        self.own = pressure
        self._now = acting = pressure if now is None else now
        if self._cluster is not None:
            acting = self._cluster.pressure()
        shed_before = self._overload.sheds
        self._overload.look(max(pressure, acting), acting)
        if self._overload.sheds != shed_before:
            self._log_change()
        for follower in self.followers:
            follower(self._overload.pressure)
        wall = self._wall_ms()
        shown, admitted, since = self._worded
        old = not 0 <= wall - since < _RENEW_MS
        if not 0 <= wall - self._measured < _RENEW_MS:
            self._measured = wall
            self._measure()
        latest = (round(pressure, 2), round(self.admitted, 2))
        if old or latest != (shown, admitted):
            self._worded = (*latest, wall)
            self.field = self._word()

    def _log_change(self) -> None:
        if self._overload.sheds:
            _log.info("shedding begins at pressure %.2f", self._overload.pressure)
        else:
            _log.info("shedding is over; %d requests were shed so far", sum(self._overload.shed))

    def _measure(self) -> None:
        """The share that was admitted since the last time."""
        asked: int = self._overload.asked
        shed = sum(self._overload.shed)
        more = asked - self._asked
        if more > 0:
            self.admitted = 1.0 - min(max(shed - self._shed, 0), more) / more
        elif not self._overload.sheds:
            self.admitted = 1.0
        self._asked, self._shed = asked, shed

    def _word(self) -> bytes:
        pressure, admitted, now = self._worded
        return format_pressure(pressure, admitted, _TTL_MS, now).encode("ascii")

    def _wall_ms(self) -> int:
        return self._clock.wall_ns() // NS_PER_MS
