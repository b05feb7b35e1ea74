"""A limiter whose rate follows how the program copes."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, final

from headgate.backpressure.adaptive_rate import PERIOD_NS, AdaptiveRule, make_rate_rule
from headgate.errors import InvalidInput
from headgate.gates.async_limiter import AsyncLimiter
from headgate.gates.limiter import Limiter
from headgate.gates.numbers import valid_call

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.inputs import Text

__all__ = ["AdaptiveRate"]

_log = logging.getLogger("headgate.adaptive_rate")


@final
class AdaptiveRate:
    """Turns a limiter's rate up and down, between a quarter and twice of what it was given.

    >>> from headgate import Limiter
    >>> pressure = iter([1.0, 2.0])
    >>> limiter = Limiter("100/second")
    >>> rate = AdaptiveRate(limiter, lambda: next(pressure))
    >>> rate.update()
    0.9
    >>> limiter.peek("anybody").limit
    90

    Have `update` called every 250 ms or more often. A load monitor does it:
    ``monitor.subscribe(rate.update)``.

    Keys keep what they have spent and what they have left when the rate changes.

    Args:
        limiter: whose rate it is. It must not be a concurrency limit, nor follow a calendar.
        pressure: says how the program copes: 0 idle, 1 at its limit. `LoadMonitor.pressure` is one.
        rule: ``aimd`` gives way quickly and comes back slowly; ``stepwise`` goes up and down around a
            threshold. See `headgate.backpressure.adaptive_rate` for what exactly they do.
        threshold: of ``stepwise``, as a pressure; 0.8.
        adjustment: of ``stepwise``, the part by which the rate changes at a time; 0.1.

    Raises:
        InvalidInput: a setting makes no sense, or there is no rate to change.
    """

    def __init__(
        self,
        limiter: Limiter | AsyncLimiter,
        pressure: Callable[[], float],
        rule: Text = "aimd",
        *,
        threshold: float | None = None,
        adjustment: float | None = None,
    ) -> None:
        if isinstance(limiter, AsyncLimiter):
            limiter = limiter.sync
        if not isinstance(limiter, Limiter):
            raise InvalidInput(
                f"limiter must be a Limiter or an AsyncLimiter, got {type(limiter).__name__}"
            )
        valid_call("pressure", pressure)
        self.limiter: Limiter = limiter
        self._rule: AdaptiveRule = make_rate_rule(rule, threshold, adjustment)
        self._pressure = pressure
        self._has_complained = False
        self._lock = threading.Lock()
        self._admitted, self._denied = limiter.answered()
        # So many checks between two looks are half of what one key may do.
        self._half = min(
            0.5 * usage.limit * PERIOD_NS / usage.window_ns for usage in limiter.usage("headgate")
        )
        limiter.set_pace(1.0)

    @property
    def factor(self) -> float:
        """How many times its rate the limiter runs at now."""
        return self._rule.factor

    def update(self, report: object = None) -> float:
        """Look at the pressure, and let the limiter run as fast as is good.

        Does nothing when the last look was less than 250 ms ago. A source that raises, or answers what is
        no number, changes nothing, and the log says so once.

        Args:
            report: not looked at; so that a load monitor can call this.

        Returns:
            The factor that is in force.
        """
        now = self.limiter.clock.now_ns()
        if not self._rule.is_due(now):
            return self._rule.factor
        pressure = self._read()
        with self._lock:
            if pressure is not None and self._rule.is_due(now):
                self._rule.update(pressure, self._is_used(), now)
                self.limiter.set_pace(self._rule.factor)
            return self._rule.factor

    def _read(self) -> float | None:
        try:
            return float(self._pressure())
        except Exception:  # noqa: BLE001 - whatever it is, it must not reach who calls update
            if not self._has_complained:
                _log.exception("the source of pressure failed; the rate stays as it is")
            self._has_complained = True
            return None

    def _is_used(self) -> bool:
        admitted, denied = self.limiter.answered()
        checks, refusals = admitted - self._admitted, denied - self._denied
        self._admitted, self._denied = admitted, denied
        return refusals > 0 or checks >= max(1.0, self._half * self._rule.factor)
