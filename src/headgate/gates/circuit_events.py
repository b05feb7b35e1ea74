"""What is told about a circuit: its changes to listeners, its standing to whoever asks."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.backpressure.breaker_rule import CircuitState

__all__ = ["CircuitEvent", "CircuitReport", "Listeners"]

_log = logging.getLogger("headgate.breaker")


@final
@dataclass(frozen=True, slots=True)
class CircuitEvent:
    """A circuit changed.

    Attributes:
        name: the breaker's.
        before, after: its states.
        at_ns: when, on the breaker's clock.
        reason: a few words for people.
    """

    name: str
    before: CircuitState
    after: CircuitState
    at_ns: int
    reason: str


@final
@dataclass(frozen=True, slots=True)
class CircuitReport:
    """How a circuit stands.

    Attributes:
        name: the breaker's.
        state: where the next call finds it.
        scope: whose counts these are: ``local``, those of this breaker; ``shared``, those of all that
            share it, as far as they are known here; ``store_lost``, those of this breaker, because the
            store does not answer.
        calls, failures, slow: in the window.
        failures_in_row: up to the last call.
        openings: without a clean time in between.
        probes: under way.
        share: of the calls that pass: 1.0 closed, 0.0 open, a step of the ramp between.
        refused: calls, by this breaker, since it was made.
        retry_after: seconds until a call passes, as far as is known.
    """

    name: str
    state: CircuitState
    scope: Literal["local", "shared", "store_lost"]
    calls: int
    failures: int
    slow: int
    failures_in_row: int
    openings: int
    probes: int
    share: float
    refused: int
    retry_after: float


@final
class Listeners:
    """Tells listeners of changes, in the order in which those happened, outside all locks.

    Whoever finds somebody telling already leaves its events to that one. A listener that raises is
    logged and removed: it cannot break a call, and it is not asked again.
    """

    def __init__(self, listeners: list[Callable[[CircuitEvent], object]]) -> None:
        self._listeners = listeners
        self._events: deque[CircuitEvent] = deque()
        self._telling: deque[None] = deque([None])

    def add(self, listener: Callable[[CircuitEvent], object]) -> None:
        """Tell this one too, from now on."""
        self._listeners = [*self._listeners, listener]

    def remove(self, listener: Callable[[CircuitEvent], object]) -> None:
        """Tell this one no more; harmless when it was not told."""
        self._listeners = [one for one in self._listeners if one != listener]

    def note(self, event: CircuitEvent) -> None:
        """Something happened; to be told by the next `tell`. Called under the breaker's lock."""
        self._events.append(event)

    def tell(self) -> None:
        """Tell what was noted. Called without any lock."""
        while self._events:
            try:
                # The one token is the right to tell; taking it is atomic, and nobody waits for it.
                self._telling.pop()
            except IndexError:
                return
            try:
                while self._events:
                    self._tell_all(self._events.popleft())
            finally:
                self._telling.append(None)

    def _tell_all(self, event: CircuitEvent) -> None:
        _log.info("circuit %r: %s to %s: %s", event.name, event.before, event.after, event.reason)
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:  # noqa: BLE001 - it is the user's, and observes
                _log.exception("a listener of circuit %r raised, and is removed", event.name)
                self.remove(listener)
