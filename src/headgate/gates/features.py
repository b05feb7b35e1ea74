"""Features that switch themselves off under pressure, so that what matters goes on (B7)."""

from __future__ import annotations

import functools
import inspect
import logging
import random
import threading
from typing import TYPE_CHECKING, Any, TypeVar, final

from headgate.backpressure.degradation import DegradationLevel
from headgate.clock import SystemClock
from headgate.decision import Decision
from headgate.errors import FeatureOff, InvalidInput, NotFound
from headgate.gates.feature import HUNG, Feature, FeatureState, read_switch, valid_health
from headgate.gates.names import valid_name
from headgate.gates.numbers import valid_call
from headgate.gates.wrapping import is_awaited

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.clock import Clock

__all__ = ["FeatureState", "Features"]

_F = TypeVar("_F", bound="Callable[..., Any]")
_log = logging.getLogger("headgate.features")


@final
class Features:
    """Named features, each with a pressure at which it goes off.

    >>> features = Features(pressure=lambda: 0.9)
    >>> features.add("recommendations", off_at=0.8, on_below=0.6)
    >>> features.add("checkout", off_at=1.5)
    >>> features.is_on("recommendations"), features.is_on("checkout")
    (False, True)

    A feature goes off at once when the pressure reaches ``off_at``. It comes back when the pressure has been
    below ``on_below`` for ``hold`` seconds and its health check, if it has one, says yes; when that does not
    last, the wait doubles, up to a minute. `headgate.backpressure.degradation` has the rule.

    Nothing runs in the background: a feature is looked at whenever somebody asks for it. Thread-safe; no
    lock is held while a pressure source, a health check, a fallback or a listener runs. A pressure source
    that fails, or gives no number, counts as no pressure, and is logged once.

    Args:
        pressure: gives the pressure: 0 idle, 1 at the limit; `LoadMonitor.pressure` does. Left out, features
            change by `force` alone.
        clock: gives the time; the system's when left out.
        uniform: gives random numbers in [0, 1).
    """

    def __init__(
        self,
        pressure: Callable[[], float] | None = None,
        *,
        clock: Clock | None = None,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        if pressure is not None and not callable(pressure):
            raise InvalidInput(
                f"pressure must be a callable such as monitor.pressure, got {pressure!r:.100}"
            )
        self.clock: Clock = SystemClock() if clock is None else clock
        self._source = pressure
        valid_call("uniform", uniform)
        self._uniform = uniform
        self._features: dict[str, Feature] = {}
        self._listeners: list[Callable[[FeatureState], object]] = []
        self._level = DegradationLevel()
        self._failed = False
        self._lock = threading.RLock()

    def add(
        self,
        name: str,
        *,
        off_at: float | str = "high",
        on_below: float | None = None,
        hold: float = 5.0,
        fallback: Callable[..., Any] | None = None,
        health: Callable[[], object] | None = None,
    ) -> None:
        """Name a feature. It is on until the pressure says otherwise.

        Args:
            name: 1 to 1024 characters.
            off_at: the pressure that switches it off, above 0 to 2, or the name of a level: ``"elevated"``
                (0.5), ``"high"`` (0.8) or ``"critical"`` (1.0).
            on_below: the pressure below which it may come back, above 0 to ``off_at``; three quarters of
                that when left out.
            hold: seconds that the pressure must have been below first, above 0 to 86400.
            fallback: called in place of what `feature` decorates, with the same arguments.
            health: asked before it comes back; true when all is well. What raises says no. It must not be
                a coroutine function: whoever asks for the feature waits for it.

        Raises:
            InvalidInput: a threshold is impossible, or the name is taken.
        """
        feature = Feature(
            valid_name("name", name),
            read_switch(off_at, on_below, hold),
            fallback,
            valid_health(health),
        )
        if fallback is not None and not callable(fallback):
            raise InvalidInput(f"fallback must be callable, got {type(fallback).__name__}")
        with self._lock:
            if name in self._features:
                raise InvalidInput(f"there is a feature {name!r:.100} already; choose another name")
            self._features[feature.name] = feature

    def is_on(self, name: str) -> bool:
        """Whether a feature is on now.

        Raises:
            NotFound: there is no such feature.
        """
        return self._look(self._find(name), self._pressure())

    def force(self, name: str, on: bool | None) -> None:  # noqa: FBT001 - the value that is set
        """Decide it by hand: True on, False off, None by pressure again.

        Raises:
            NotFound: there is no such feature.
            InvalidInput: it is none of the three.
        """
        if on is not None and not isinstance(on, bool):
            raise InvalidInput(f"force takes True, False or None, got {on!r:.100}")
        feature = self._find(name)
        with self._lock:
            before = feature.is_on()
            feature.forced = on
            changed = feature.is_on() != before
        if changed:
            self._tell(feature.state(self._pressure(), self.clock.now_ns()))

    def state(self, name: str) -> FeatureState:
        """How one stands.

        Raises:
            NotFound: there is no such feature.
        """
        feature = self._find(name)
        pressure = self._pressure()
        self._look(feature, pressure)
        return feature.state(pressure, self.clock.now_ns())

    def states(self) -> list[FeatureState]:
        """How all stand, in the order in which they were added."""
        pressure = self._pressure()
        features = list(self._features.values())
        for feature in features:
            self._look(feature, pressure)
        now = self.clock.now_ns()
        return [feature.state(pressure, now) for feature in features]

    def update(self, report: object = None) -> None:
        """Look at all of them now, so that listeners hear of it: ``monitor.subscribe(features.update)``."""
        self.states()

    def level(self) -> str:
        """How badly things stand: ``normal``, ``elevated``, ``high`` or ``critical``."""
        pressure = self._pressure()
        with self._lock:
            return self._level.update(pressure)

    def subscribe(self, listener: Callable[[FeatureState], object]) -> Callable[[], None]:
        """Call back when a feature goes on or off, in the thread that noticed.

        A listener that raises is logged and removed.

        Returns:
            What ends the subscription.
        """
        if not callable(listener):
            raise InvalidInput(f"a listener must be callable, got {type(listener).__name__}")
        with self._lock:
            self._listeners.append(listener)
        return lambda: self._unsubscribe(listener)

    def feature(
        self, name: str, *, fallback: Callable[..., Any] | None = None, **settings: Any
    ) -> Callable[[_F], _F]:
        """Run a function only while a feature is on.

        >>> features = Features(pressure=lambda: 1.2)
        >>> @features.feature("related", fallback=lambda item: [], off_at="high")
        ... def related(item: str) -> list[str]:
        ...     return ["much work"]
        >>> related("book")
        []

        For functions and coroutine functions; generators are decided about when they are made. The fallback
        of a coroutine function may be one, or not.

        Args:
            name: of a feature that was added, or of a new one.
            fallback: called instead, with the same arguments; that of the feature when left out.
            settings: of a new feature, as `add` takes them.

        Raises:
            FeatureOff: by the function, when the feature is off and there is no fallback.
            InvalidInput: when decorating, if there is such a feature and settings are given besides.
        """
        if name not in self._features:
            self.add(name, **settings)
        elif settings:
            raise InvalidInput(
                f"the feature {name!r:.100} exists; give its settings where it is added"
            )
        feature = self._find(name)

        def decorate(function: Any) -> Any:
            is_bound_late = isinstance(function, staticmethod | classmethod)
            if is_bound_late or inspect.isclass(function) or not callable(function):
                raise InvalidInput(
                    f"feature decorates functions, got {type(function).__name__}; put it under "
                    "@staticmethod and @classmethod"
                )
            if is_awaited(function):
                return self._wrap_coroutine(feature, function, fallback)
            return self._wrap(feature, function, fallback)

        return decorate

    def _wrap(self, feature: Feature, function: Any, fallback: Any) -> Any:
        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            if self._look(feature, self._pressure()):
                return function(*args, **kwargs)
            return self._instead(feature, fallback)(*args, **kwargs)

        return called

    def _wrap_coroutine(self, feature: Feature, function: Any, fallback: Any) -> Any:
        @functools.wraps(function)
        async def called(*args: Any, **kwargs: Any) -> Any:
            if self._look(feature, self._pressure()):
                return await function(*args, **kwargs)
            answer = self._instead(feature, fallback)(*args, **kwargs)
            return await answer if inspect.isawaitable(answer) else answer

        return called

    def _instead(self, feature: Feature, fallback: Any) -> Callable[..., Any]:
        """What to call while the feature is off."""
        instead: Callable[..., Any] | None = feature.fallback if fallback is None else fallback
        if instead is not None:
            return instead
        left = max(1, feature.switch.left(self.clock.now_ns()))
        raise FeatureOff(Decision(False, 0, 0, left, left, 0, feature.name, 0), feature.name)

    def _look(self, feature: Feature, pressure: float) -> bool:
        """Bring a feature up to date; whether it is on."""
        switch = feature.switch
        if switch.on and pressure < switch.off_at:
            return feature.is_on()  # the usual case takes no lock
        ticket = 0
        with self._lock:
            before = feature.is_on()
            now = self.clock.now_ns()
            if switch.update(pressure, now, self._uniform()):
                ticket = feature.claim(now)
                if ticket == HUNG:
                    switch.tried(now, self._uniform(), healthy=False)
            on = feature.is_on()
        ours = True
        if ticket > 0:
            ours = self._try(feature, ticket)
            on = feature.is_on()
        if ours and on != before:  # only who made the change tells of it
            self._tell(feature.state(pressure, now))
        return on

    def _try(self, feature: Feature, ticket: int) -> bool:
        """Ask its health, and switch it on if that is well. False when the answer came too late."""
        healthy = False
        try:
            healthy = feature.health is None or bool(feature.health())
        except Exception:  # noqa: BLE001 - what raises is not well
            _log.warning("the health check of feature %r failed", feature.name, exc_info=True)
        finally:
            with self._lock:
                heard = feature.settle(ticket)
                if heard:
                    feature.switch.tried(self.clock.now_ns(), self._uniform(), healthy=healthy)
        return heard

    def _tell(self, state: FeatureState) -> None:
        _log.info(
            "feature %r is %s at pressure %.2f",
            state.name,
            "on" if state.on else "off",
            state.pressure,
        )
        for listener in tuple(self._listeners):
            try:
                listener(state)
            except Exception:  # noqa: BLE001 - an observer cannot break the caller
                _log.exception("a listener of features failed, and is removed")
                self._unsubscribe(listener)

    def _unsubscribe(self, listener: Callable[[FeatureState], object]) -> None:
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)

    def _pressure(self) -> float:
        if self._source is None:
            return 0.0
        try:
            pressure = float(self._source())
        except Exception:  # noqa: BLE001 - features must not fail with what they watch
            if not self._failed:
                self._failed = True
                _log.exception("the pressure source failed, and counts as no pressure")
            return 0.0
        return max(0.0, pressure)  # which makes 0 of NaN, too

    def _find(self, name: object) -> Feature:
        feature = self._features.get(name) if isinstance(name, str) else None
        if feature is None:
            raise NotFound(f"there is no feature {name!r:.100}; add it first", name=name)
        return feature
