"""How clients behave towards an upstream, in experiments 4 and 5: as most do, as others taught them, as ours.

A `Manner` is one client's. For each call it gives a `Ticket`, or None when the call is not sent at all. The
ticket hears what became of each attempt and says how long to wait for another one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, Protocol, final

from headgate.backpressure.client_throttle import AcceptWindow
from headgate.backpressure.pressure_header import PressureReport
from headgate.clock import NS_PER_MS, NS_PER_SECOND
from headgate.errors import RateLimited
from headgate.gates.answers import Answer
from headgate.gates.client_throttle import ClientThrottle
from headgate.gates.retry import RetryRules

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from headgate.clock import Clock
    from headgate.gates.retry import Attempts

    Outcome = Literal["done", "refused", "lost"]

__all__ = ["EnvoyAdmission", "GrpcRetries", "Manner", "Ours", "PlainRetries", "Ticket"]

_FIRST_BACKOFF_NS: Final = 300 * NS_PER_MS
_UPSTREAM: Final = "upstream"


class Ticket(Protocol):
    """One call's attempts."""

    def ended(self, outcome: Outcome, pressure: float) -> float | None:
        """An attempt was answered, refused or lost: seconds until the next one; None when there is none."""

    def resume(self) -> bool:
        """The wait is over: whether to try again."""


class Manner(Protocol):
    """One client's."""

    def begin(self, tier: int) -> Ticket | None:
        """A call is to be made; None when it is not worth sending."""


class _Tries:
    """Up to so many attempts, with exponential backoff and full jitter between them."""

    def __init__(self, attempts: int, rng: Random) -> None:
        self._left = attempts - 1
        self._rng = rng
        self._ceiling_ns = _FIRST_BACKOFF_NS

    def ended(self, outcome: Outcome, pressure: float) -> float | None:
        if outcome == "done" or self._left < 1:
            return None
        self._left -= 1
        wait = self._rng.random() * self._ceiling_ns / NS_PER_SECOND
        self._ceiling_ns *= 2
        return wait

    def resume(self) -> bool:
        return True


@final
class PlainRetries:
    """Tries each call so many times, whatever happens: 1 is a client that does nothing about overload."""

    def __init__(self, attempts: int, rng: Random) -> None:
        self._attempts = attempts
        self._rng = rng

    def begin(self, tier: int) -> Ticket | None:
        return _Tries(self._attempts, self._rng)


@final
class GrpcRetries:
    """gRPC's retry throttling (proposal A6), with the values of its example.

    ``maxTokens`` 10, ``tokenRatio`` .1: a failure takes a token, a success gives .1; there are retries while
    more than half of the tokens are left.
    """

    def __init__(self, attempts: int, rng: Random) -> None:
        self._attempts = attempts
        self._rng = rng
        self.tokens = 10.0

    def begin(self, tier: int) -> Ticket | None:
        return _GrpcTicket(self, _Tries(self._attempts, self._rng))


@final
class _GrpcTicket:
    def __init__(self, manner: GrpcRetries, tries: _Tries) -> None:
        self._manner = manner
        self._tries = tries

    def ended(self, outcome: Outcome, pressure: float) -> float | None:
        manner = self._manner
        change = 0.1 if outcome == "done" else -1.0
        manner.tokens = min(10.0, max(0.0, manner.tokens + change))
        if manner.tokens <= 5.0:
            return None
        return self._tries.ended(outcome, pressure)

    def resume(self) -> bool:
        return True


@final
class EnvoyAdmission:
    """Envoy's admission control filter, with its defaults, at the client.

    Over 30 s, with s = successes / .95: refused with probability (n - s) / (n + 1), at most .8. What is
    refused here is not counted, other than in the client throttle.
    """

    def __init__(self, clock: Clock, rng: Random) -> None:
        self._clock = clock
        self._rng = rng
        self.window = AcceptWindow(30 * NS_PER_SECOND)

    def begin(self, tier: int) -> Ticket | None:
        self.window.move_to(self._clock.now_ns())
        count = self.window.requests
        share = (count - self.window.accepts / 0.95) / (count + 1)
        return None if self._rng.random() < min(share, 0.8) else self

    def ended(self, outcome: Outcome, pressure: float) -> float | None:
        self.window.add(1, int(outcome == "done"), self._clock.now_ns())
        return None

    def resume(self) -> bool:
        return False


@final
class Ours:
    """Headgate's client side, as `headgate.integrations.httpx` puts it together.

    Args:
        clock: of the run.
        uniform: of the client.
        attempts: of a call.
        timeout: seconds from the beginning of a call until which it may be tried again.
        hears: whether the client takes in X-Pressure.
    """

    def __init__(
        self,
        clock: Clock,
        uniform: Callable[[], float],
        *,
        attempts: int = 1,
        timeout: float | None = None,
        hears: bool = True,
    ) -> None:
        throttle = ClientThrottle(clock=clock, uniform=uniform)
        self._rules = RetryRules(
            attempts=attempts,
            timeout=timeout,
            throttle=throttle,
            first_backoff=_FIRST_BACKOFF_NS / NS_PER_SECOND,
            clock=clock,
            uniform=uniform,
        )
        self._hears = hears

    def begin(self, tier: int) -> Ticket | None:
        attempts = self._rules.begin(_UPSTREAM, tier)
        try:
            attempts.enter()
        except RateLimited:
            return None
        return _OurTicket(attempts, self._rules.clock, self._hears)


@final
class _OurTicket:
    def __init__(self, attempts: Attempts, clock: Clock, hears: bool) -> None:  # noqa: FBT001 - its maker's
        self._attempts = attempts
        self._clock = clock
        self._hears = hears

    def ended(self, outcome: Outcome, pressure: float) -> float | None:
        report = None
        if self._hears and outcome != "lost":
            seq = self._clock.now_ns() // NS_PER_MS
            report = PressureReport(pressure, 1.0, 1_000, seq)
        answer = None
        if outcome != "lost":
            answer = Answer(200 if outcome == "done" else 503, pressure=report)
        return self._attempts.ended(answer, well=outcome == "done", retryable=True)

    def resume(self) -> bool:
        return self._attempts.resume()
