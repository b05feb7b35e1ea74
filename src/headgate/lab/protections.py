"""What stands before a server in experiments 1 to 3: nothing, ours, and what others use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, final
from zlib import crc32

from headgate.backpressure.tiered_shedder import LEVELS_OF_A_TIER
from headgate.clock import NS_PER_MS, NS_PER_SECOND
from headgate.gates.load_shedder import LoadShedder
from headgate.priority import TIERS

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from headgate.clock import Clock
    from headgate.lab.workload import Request

__all__ = [
    "LIVE",
    "OURS",
    "PROTECTIONS",
    "BoundedQueue",
    "Dagor",
    "Protection",
    "Setting",
    "Tiered",
    "Unprotected",
    "bounded",
    "dagor",
    "tiered",
    "unprotected",
]

OURS: Final = "Headgate, tiered shedder"


class Protection(Protocol):
    """Decides on arrivals and hears what became of them. The time is nanoseconds of the simulation."""

    label: str

    def admit(self, request: Request, waiting: int, now: int) -> bool:
        """Whether an arrival may join those that wait."""

    def started(self, request: Request, now: int) -> None:
        """A seat took it."""

    def done(self, request: Request, now: int) -> None:
        """It was answered."""

    def tick(self, waiting: int, now: int) -> None:
        """Another 100 ms are over."""

    def pressure(self, now: int) -> float:
        """What answers say of it."""


class Unprotected:
    """Takes everything in."""

    label = "unprotected"

    def admit(self, request: Request, waiting: int, now: int) -> bool:
        return True

    def started(self, request: Request, now: int) -> None:
        """Nothing to learn."""

    def done(self, request: Request, now: int) -> None:
        """Nothing to learn."""

    def tick(self, waiting: int, now: int) -> None:
        """Nothing to do."""

    def pressure(self, now: int) -> float:
        return 0.0


@final
class BoundedQueue(Unprotected):
    """Takes in what finds room: the listen backlog and the thread pool's queue of most servers."""

    def __init__(self, most: int) -> None:
        self.label = f"bounded queue of {most}"
        self._most = most

    def admit(self, request: Request, waiting: int, now: int) -> bool:
        return waiting < self._most


@final
class Tiered(Unprotected):
    """Headgate's `LoadShedder`, as users have it, with its defaults."""

    label = OURS

    def __init__(self, setting: Setting) -> None:
        self._waiting = 0
        self._allow = LoadShedder(
            queue=lambda: self._waiting,
            clock=setting.clock,
            uniform=setting.stream("shedder").random,
        ).allow

    def admit(self, request: Request, waiting: int, now: int) -> bool:
        self._waiting = waiting
        return self._allow(request.tier, request.flow).allowed


_LEVELS: Final = TIERS * LEVELS_OF_A_TIER
_MOST_WAITING: Final = 300


@final
class Dagor(Unprotected):
    """WeChat's DAGOR, as its paper has it: a level of admission that follows the queueing time.

    Per window of 1 s or 2000 requests: the mean queueing time was above 20 ms, so admit 5 % less than was
    admitted, else 1 % more; the level is looked up in a histogram of the window's arrivals.

    It gets the bound of 300 waiting that ours has, without which its backlog at 2x outlasts any run.

    Zhou et al., Overload Control for Scaling WeChat Microservices (2018), section 4.2.
    """

    label = "DAGOR (WeChat)"

    def __init__(self) -> None:
        self._level = _LEVELS - 1
        self._counts = [0] * _LEVELS
        self._admitted = 0
        self._arrived = 0
        self._waited_ns = 0
        self._started = 0
        self._ends_ns = NS_PER_SECOND

    def admit(self, request: Request, waiting: int, now: int) -> bool:
        level = request.tier * LEVELS_OF_A_TIER + (crc32(request.flow.encode()) & 127)
        self._arrived += 1
        self._counts[level] += 1
        is_admitted = level <= self._level and waiting < _MOST_WAITING
        self._admitted += is_admitted
        if self._arrived >= 2000:
            self._turn(now)
        return is_admitted

    def started(self, request: Request, now: int) -> None:
        self._started += 1
        self._waited_ns += now - request.arrived

    def tick(self, waiting: int, now: int) -> None:
        if now >= self._ends_ns:
            self._turn(now)

    def _turn(self, now: int) -> None:
        """The window is over: move the level by what it showed."""
        mean_ns = self._waited_ns / self._started if self._started else 0
        if mean_ns > 20 * NS_PER_MS:
            self._lower(0.95 * self._admitted)
        else:
            self._raise(1.01 * self._admitted)
        self._counts = [0] * _LEVELS
        self._admitted = self._arrived = self._waited_ns = self._started = 0
        self._ends_ns = now + NS_PER_SECOND

    def _lower(self, wanted: float) -> None:
        expected: float = self._admitted
        while expected > wanted and self._level > 0:
            expected -= self._counts[self._level]
            self._level -= 1

    def _raise(self, wanted: float) -> None:
        expected: float = self._admitted
        while expected < wanted and self._level < _LEVELS - 1:
            self._level += 1
            expected += self._counts[self._level]


class Setting(Protocol):
    """What a protection needs of a `Simulation`, or of the host in a live server."""

    @property
    def clock(self) -> Clock:
        """The time."""

    def stream(self, name: str) -> Random:
        """Randomness of its own for one purpose."""


def unprotected(_: Setting) -> Protection:
    """Nothing."""
    return Unprotected()


def bounded(_: Setting) -> Protection:
    """A queue of 300."""
    return BoundedQueue(_MOST_WAITING)


def dagor(_: Setting) -> Protection:
    """WeChat's."""
    return Dagor()


def tiered(setting: Setting) -> Protection:
    """Headgate's."""
    return Tiered(setting)


PROTECTIONS: Final[dict[str, Callable[[Setting], Protection]]] = {
    "unprotected": unprotected,
    "bounded queue of 300": bounded,
    "DAGOR (WeChat)": dagor,
    OURS: tiered,
}
"""What is compared, by label."""

LIVE: Final = {label: f"{__name__}:{factory.__name__}" for label, factory in PROTECTIONS.items()}
"""Their import paths, for servers of the live rig."""
