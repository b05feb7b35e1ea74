"""A client that spares an upstream what it would refuse anyway (B6), and slows down before it must (B8)."""

from __future__ import annotations

import threading
from random import random
from typing import TYPE_CHECKING, Final, SupportsFloat, SupportsIndex, final

from headgate.backpressure.client_throttle import AcceptWindow, ThrottleRule
from headgate.backpressure.pressure_header import is_believable, parse_pressure
from headgate.backpressure.upstream_pressure import UpstreamPressure, held_back, tightened
from headgate.clock import NS_PER_SECOND, SystemClock
from headgate.decision import Decision
from headgate.errors import Overloaded, RateLimited
from headgate.gates.answers import Answer, answer_of
from headgate.gates.numbers import valid_call, valid_number, valid_seconds
from headgate.gates.upstream_book import MAX_UPSTREAMS, UpstreamBook
from headgate.inputs import valid_count, valid_key
from headgate.priority import TIERS, tier_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from headgate.backpressure.pressure_header import PressureReport
    from headgate.clock import Clock

__all__ = ["ClientThrottle", "ThrottleGuard", "refusal"]

HOLD: Final = "upstream_limit"
"""The policy of a decision that an upstream's own limit made: it said that it is used up."""

_MAX_HOLD: Final = 86_400.0
_LEAST_WAIT: Final = 0.5


class _Upstream:
    """What is remembered of one upstream."""

    __slots__ = ("hold_until", "pressure", "windows")

    def __init__(self) -> None:
        self.windows: list[AcceptWindow | None] = [None] * TIERS
        self.pressure = UpstreamPressure()
        self.hold_until = 0

    def says_nothing(self) -> bool:
        # Where all was accepted, nobody is to be spared.
        return self.hold_until == 0 and all(
            window is None or window.requests == window.accepts for window in self.windows
        )


@final
class ClientThrottle:
    """Decides, for each upstream and priority, whether a call is worth sending.

    >>> throttle = ClientThrottle()
    >>> with throttle.guard("search", priority="low"):
    ...     pass  # call it; the throttle reads status and headers off what is raised
    >>> throttle.refusal_share("search")
    0.0

    Refused are calls that the upstream would refuse (see `headgate.backpressure.client_throttle`), less
    important ones under its pressure (`headgate.backpressure.upstream_pressure`), and all while a limit of
    ours at the upstream is used up.

    Thread-safe, and safe across asyncio tasks: no call blocks.

    Args:
        multiplier: K, 1 to 100: how many times what it accepts an upstream may see.
        window: seconds that outcomes count for.
        min_rate: calls per second and priority below which none is refused for overload.
        max_refusal: the largest share that is refused for overload, below 1.
        max_hold: seconds that an upstream's word about a limit of ours is believed at most; None for an
            upstream whose 429 is about somebody else, such as a Headgate service that is asked to check.
        max_upstreams: how many are remembered.
        name: stands in decisions as the policy.
        clock: gives the time; the system's when left out.
        uniform: draws from [0, 1).

    Raises:
        InvalidInput: a setting is none.
    """

    def __init__(  # noqa: PLR0913 - every setting has a place here
        self,
        *,
        multiplier: SupportsFloat = 2.0,
        window: SupportsFloat = 30.0,
        min_rate: SupportsFloat = 10.0,
        max_refusal: SupportsFloat = 0.9,
        max_hold: SupportsFloat | None = 60.0,
        max_upstreams: SupportsIndex = MAX_UPSTREAMS,
        name: str = "client_throttle",
        clock: Clock | None = None,
        uniform: Callable[[], float] = random,
    ) -> None:
        self.clock: Clock = SystemClock() if clock is None else clock
        self.name = name
        self._uniform = uniform
        valid_call("uniform", uniform)
        self._multiplier = valid_number("multiplier", multiplier, 1, 100)
        self._window_ns = valid_seconds("window", window)
        self._max_hold_ns = 0
        if max_hold is not None:
            self._max_hold_ns = valid_seconds("max_hold", max_hold, _MAX_HOLD)
        self._rule = ThrottleRule(
            self._multiplier,
            valid_number("min_rate", min_rate, 0, 1e9),
            valid_number("max_refusal", max_refusal, 0, 0.99),
        )
        self._book: UpstreamBook[_Upstream] = UpstreamBook(
            _Upstream, _Upstream.says_nothing, valid_count("max_upstreams", max_upstreams, 10**6)
        )
        self._lock = threading.RLock()

    def allow(self, upstream: str, priority: object = "normal") -> Decision:
        """Whether to send a call. After a yes, tell with `record` what became of it, if anything did.

        Args:
            upstream: its name.
            priority: of the call: a name of `headgate.priority.PRIORITIES`, or a tier.
        """
        return self.decide(valid_key(upstream), tier_of(priority))

    def record(
        self, upstream: str, priority: object = "normal", *, overloaded: bool = False
    ) -> None:
        """A call was answered: refused for overload, or in any other way.

        Not for calls that got no answer, that were cancelled, or that were refused here.
        """
        self.count(valid_key(upstream), tier_of(priority), overloaded=overloaded)

    def hear(self, upstream: str, header: str | PressureReport | None) -> None:
        """Take in the ``X-Pressure`` field of an answer; what is none does nothing."""
        name = valid_key(upstream)
        report = parse_pressure(header) if isinstance(header, str) else header
        if is_believable(report):
            self._hear(name, report)

    def hold(self, upstream: str, seconds: float) -> None:
        """Send nothing to the upstream for so long: it said that a limit of ours is used up."""
        name = valid_key(upstream)
        self._hold(name, valid_seconds("seconds", seconds))

    def guard(self, upstream: str, priority: object = "normal") -> ThrottleGuard:
        """``with throttle.guard("search"): ...`` (or ``async with``): asks, and learns how it went.

        An exception that carries a response (``error.response``, as those of httpx and requests do) is
        read; one that carries none, a cancellation and a refusal of our own say nothing.

        Raises:
            Overloaded: on entering, when the call is not worth sending.
            RateLimited: on entering, when a limit of ours at the upstream is used up.
        """
        return ThrottleGuard(self, valid_key(upstream), tier_of(priority))

    def pressure(self, upstream: str) -> float:
        """What the upstream said about itself, as far as it is still believed; 0.0 when it did not."""
        with self._lock:
            known = self._book.known(valid_key(upstream))
            return 0.0 if known is None else known.pressure.value(self.clock.now_ns())

    def refusal_share(self, upstream: str, priority: object = "normal") -> float:
        """The share of calls that is refused here now, 0 to 1."""
        tier = tier_of(priority)
        with self._lock:
            known = self._book.known(valid_key(upstream))
            return 0.0 if known is None else self._share(known, tier, self.clock.now_ns())

    def upstreams(self) -> list[str]:
        """Those that are remembered."""
        with self._lock:
            return self._book.names()

    def decide(self, upstream: str, tier: int) -> Decision:
        """`allow`, with what it takes checked already."""
        uniform = self._uniform()
        with self._lock:
            now = self.clock.now_ns()
            known = self._book.of(upstream)
            held = self._held(known, now)
            if held > 0:
                return Decision(False, 0, 0, held, held, 0, HOLD, self._window_ns)
            window = _window(known, tier, self._window_ns)
            share = self._share(known, tier, now)
            if uniform >= share:
                return self._describe(window, 0)
            window.add(1, 0, now)
            # Any later call may pass. Who waits is to be spread out, and not to come back at once. (Of a
            # draw that is below the share, the part of it is as random as the draw was.)
            wait = int((_LEAST_WAIT + uniform / share) * NS_PER_SECOND)
            return self._describe(window, wait)

    def count(self, upstream: str, tier: int, *, overloaded: bool) -> None:
        """`record`, with what it takes checked already."""
        with self._lock:
            window = _window(self._book.of(upstream), tier, self._window_ns)
            window.add(1, 0 if overloaded else 1, self.clock.now_ns())

    def learn(self, upstream: str, tier: int, answer: Answer) -> None:
        """Take in all that an answer says."""
        self._hear(upstream, answer.pressure)
        if answer.hold_ns > 0:
            self._hold(upstream, answer.hold_ns)
        self.count(upstream, tier, overloaded=answer.is_overloaded)

    def _hear(self, upstream: str, report: PressureReport | None) -> None:
        if report is not None:
            with self._lock:
                self._book.of(upstream).pressure.hear(report, self.clock.now_ns())

    def _hold(self, upstream: str, wait_ns: int) -> None:
        if self._max_hold_ns == 0:
            return
        with self._lock:
            until = self.clock.now_ns() + min(wait_ns, self._max_hold_ns)
            known = self._book.of(upstream)
            known.hold_until = max(known.hold_until, until)

    def _held(self, known: _Upstream, now: int) -> int:
        """Nanoseconds that are left of a hold; none is longer than the longest, whatever the clock did."""
        if known.hold_until == 0:
            return 0
        left = known.hold_until - now
        if 0 < left <= self._max_hold_ns:
            return left
        known.hold_until = 0
        return 0

    def _share(self, known: _Upstream, tier: int, now: int) -> float:
        pressure = known.pressure.value(now)
        window = known.windows[tier]
        share = 0.0
        if window is not None:
            share = self._rule.refusal(window, now, tightened(self._multiplier, pressure))
        return max(share, held_back(pressure, tier))

    def _describe(self, window: AcceptWindow, wait: int) -> Decision:
        """A yes, or a no for so many nanoseconds."""
        limit = int(self._multiplier * window.accepts)
        remaining = max(0, limit - window.requests)
        return Decision(
            wait == 0, limit, remaining, wait, self._window_ns, 0, self.name, self._window_ns
        )


@final
class ThrottleGuard:
    """One call to an upstream. Entering returns the decision."""

    def __init__(self, throttle: ClientThrottle, upstream: str, tier: int) -> None:
        self._throttle = throttle
        self._upstream = upstream
        self._tier = tier

    def __enter__(self) -> Decision:
        decision = self._throttle.decide(self._upstream, self._tier)
        if not decision.allowed:
            raise refusal(decision, self._upstream)
        return decision

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._throttle.count(self._upstream, self._tier, overloaded=False)
        elif isinstance(error, Exception) and not isinstance(error, RateLimited):
            answer = answer_of(error, self._throttle.clock.wall_ns())
            if answer is not None:
                self._throttle.learn(self._upstream, self._tier, answer)

    async def __aenter__(self) -> Decision:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, trace)


def refusal(decision: Decision, upstream: str) -> RateLimited:
    """The error for a call that is not sent: a limit of ours is used up, or the upstream is spared."""
    kind = RateLimited if decision.policy == HOLD else Overloaded
    return kind(decision, upstream)


def _window(known: _Upstream, tier: int, window_ns: int) -> AcceptWindow:
    window = known.windows[tier]
    if window is None:
        window = known.windows[tier] = AcceptWindow(window_ns)
    return window
