"""Retries that cannot become the overload themselves (B6): a budget, and a call's attempts."""

from __future__ import annotations

import threading
from random import random
from typing import TYPE_CHECKING, Final, SupportsFloat, SupportsIndex, final

from headgate.backpressure.backoff import Backoff
from headgate.backpressure.retry_budget import NO_RETRY, RetryTokens, retry_wait
from headgate.clock import NS_PER_SECOND, SystemClock
from headgate.errors import InvalidInput
from headgate.gates.client_throttle import ClientThrottle, refusal
from headgate.gates.numbers import optional_seconds, valid_call, valid_number, valid_seconds
from headgate.gates.upstream_book import MAX_UPSTREAMS, UpstreamBook
from headgate.inputs import valid_count, valid_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from headgate.clock import Clock
    from headgate.gates.answers import Answer

__all__ = ["Attempts", "RetryBudget", "RetryRules"]

_MAX_ATTEMPTS: Final = 100
_MAX_TOKENS: Final = 1_000_000.0


@final
class RetryBudget:
    """How much may be retried, for each upstream.

    >>> budget = RetryBudget()
    >>> sum(budget.take("search") for _ in range(50))
    10

    A retry costs a token, and a success gives a part of one: see `headgate.backpressure.retry_budget`.
    Thread-safe.

    Args:
        start: tokens that an upstream begins with.
        most: tokens that are kept at most.
        per_success: what a success gives, 0 to 1.
        max_upstreams: how many are remembered.

    Raises:
        InvalidInput: a setting is none.
    """

    def __init__(
        self,
        start: SupportsFloat = 10.0,
        most: SupportsFloat = 100.0,
        per_success: SupportsFloat = 0.1,
        *,
        max_upstreams: SupportsIndex = MAX_UPSTREAMS,
    ) -> None:
        self._start = valid_number("start", start, 0, _MAX_TOKENS)
        self._most = valid_number("most", most, 1, _MAX_TOKENS)
        self._per_success = valid_number("per_success", per_success, 0, 1)
        self._book: UpstreamBook[RetryTokens] = UpstreamBook(
            self._make,
            lambda tokens: tokens.left >= self._start,
            valid_count("max_upstreams", max_upstreams, 10**6),
        )
        self._lock = threading.RLock()

    def left(self, upstream: str = "default") -> float:
        """Tokens of an upstream."""
        name = valid_key(upstream)
        with self._lock:
            return (self._book.known(name) or self._make()).left

    def take(self, upstream: str = "default") -> bool:
        """Pay for a retry that sets out now; False when there is no token for it."""
        name = valid_key(upstream)
        with self._lock:
            return self._book.of(name).take()

    def succeeded(self, upstream: str = "default") -> None:
        """A call went well."""
        name = valid_key(upstream)
        with self._lock:
            self._book.of(name).succeeded()

    def _make(self) -> RetryTokens:
        return RetryTokens(self._start, self._most, self._per_success)


@final
class RetryRules:
    """What all calls have in common: throttle, budget, number of attempts, waits, deadline.

    Args:
        attempts: of one call, 1 to 100; 1 never retries.
        timeout: seconds after the beginning of a call in which its last attempt must begin; None for no
            deadline.
        throttle: spares upstreams; one of its own when left out.
        budget: for retries; one of its own when left out.
        first_backoff: seconds that the first wait takes at most; it doubles with each.
        max_backoff: seconds that no wait of ours is longer than; the upstream's own may be.
        clock: gives the time; the throttle's, or the system's, when left out.
        uniform: draws from [0, 1) for the jitter.

    Raises:
        InvalidInput: a setting is none.
    """

    def __init__(  # noqa: PLR0913 - every setting has a place here
        self,
        *,
        attempts: SupportsIndex = 3,
        timeout: SupportsFloat | None = 30.0,
        throttle: ClientThrottle | None = None,
        budget: RetryBudget | None = None,
        first_backoff: SupportsFloat = 0.1,
        max_backoff: SupportsFloat = 5.0,
        clock: Clock | None = None,
        uniform: Callable[[], float] = random,
    ) -> None:
        if throttle is not None and not isinstance(throttle, ClientThrottle):
            raise InvalidInput(f"throttle must be a ClientThrottle, got {type(throttle).__name__}")
        if budget is not None and not isinstance(budget, RetryBudget):
            raise InvalidInput(f"budget must be a RetryBudget, got {type(budget).__name__}")
        if clock is None:
            clock = SystemClock() if throttle is None else throttle.clock
        valid_call("uniform", uniform)
        self.clock: Clock = clock
        self.throttle = (
            ClientThrottle(clock=clock, uniform=uniform) if throttle is None else throttle
        )
        self.budget = RetryBudget() if budget is None else budget
        self.attempts = valid_count("attempts", attempts, _MAX_ATTEMPTS)
        self.timeout_ns = optional_seconds("timeout", timeout)
        self.uniform = uniform
        self.first_backoff_ns = valid_seconds("first_backoff", first_backoff)
        self.max_backoff_ns = valid_seconds("max_backoff", max_backoff)
        if self.first_backoff_ns > self.max_backoff_ns:
            raise InvalidInput(
                f"first_backoff must be at most max_backoff, got {first_backoff} and {max_backoff}"
            )

    def begin(self, upstream: str, tier: int, timeout_ns: int | None = None) -> Attempts:
        """A call begins; ``timeout_ns`` is its own, when it has one."""
        return Attempts(self, upstream, tier, self.timeout_ns if timeout_ns is None else timeout_ns)


@final
class Attempts:
    """One call's way through its attempts, without the sending and the waiting.

    `enter` before the first attempt; after each, `ended`; when it says for how long to wait, wait, and then
    `resume`: an attempt more if it says yes, else the last outcome stands.
    """

    __slots__ = ("_backoff", "_deadline", "_left", "_rules", "_tier", "_upstream")

    def __init__(self, rules: RetryRules, upstream: str, tier: int, timeout_ns: int | None) -> None:
        self._rules = rules
        self._upstream = upstream
        self._tier = tier
        self._left = rules.attempts
        self._deadline = None if timeout_ns is None else rules.clock.now_ns() + timeout_ns
        self._backoff = Backoff(rules.first_backoff_ns, 2.0, rules.max_backoff_ns)

    @property
    def seconds_left(self) -> float | None:
        """Until the deadline; None when there is none."""
        if self._deadline is None:
            return None
        return max(0.0, (self._deadline - self._rules.clock.now_ns()) / NS_PER_SECOND)

    def enter(self) -> None:
        """The first attempt.

        Raises:
            Overloaded: it is not worth sending.
            RateLimited: a limit of ours at the upstream is used up.
        """
        decision = self._rules.throttle.decide(self._upstream, self._tier)
        if not decision.allowed:
            raise refusal(decision, self._upstream)
        self._left -= 1

    def ended(self, answer: Answer | None, *, well: bool, retryable: bool) -> float | None:
        """An attempt is over.

        Args:
            answer: what the upstream said; None when it said nothing.
            well: whether it went well.
            retryable: whether it may be tried again, as far as the call is concerned.

        Returns:
            Seconds to wait before the next attempt; None when there is to be none.
        """
        rules = self._rules
        if answer is not None:
            rules.throttle.learn(self._upstream, self._tier, answer)
        if well:
            rules.budget.succeeded(self._upstream)
            return None
        if not retryable or self._left < 1 or rules.budget.left(self._upstream) < 1.0:
            return None
        asked = 0 if answer is None else answer.retry_after_ns
        if answer is not None and answer.is_limited and asked == 0:
            return None  # refused by a limit, and nothing tells when it would be otherwise
        wait = retry_wait(
            self._backoff.next(rules.uniform()), asked, rules.clock.now_ns(), self._deadline
        )
        return None if wait == NO_RETRY else wait / NS_PER_SECOND

    def resume(self) -> bool:
        """The wait is over: whether to try again. It is only now that the retry is paid for."""
        if self._deadline is not None and self._rules.clock.now_ns() >= self._deadline:
            return False
        if not self._rules.throttle.decide(self._upstream, self._tier).allowed:
            return False
        if not self._rules.budget.take(self._upstream):
            return False
        self._left -= 1
        return True
