"""A store behind a circuit breaker: one that keeps failing is left alone, and nobody waits for it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast, final

from headgate.errors import CircuitOpen, StoreUnavailable
from headgate.gates.circuit_breaker import CircuitBreaker

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from headgate.clock import Clock
    from headgate.engine.ports import PolicyStore, SettingsStore, Store, TokenStore

__all__ = ["GuardedStore"]

_NAME: Final = "store"


@final
class GuardedStore:
    """A `Store`, each call of which goes through a breaker.

    Only that the store did not answer counts as a failure: that a policy is not there is an answer.

    Args:
        store: the store.
        clock: gives the time.
        failure_threshold: failures in a row that open the breaker.
        recovery_threshold: successes that close it again.
        timeout: seconds that it stays open at first.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        failure_threshold: int = 5,
        recovery_threshold: int = 1,
        timeout: float = 5.0,
    ) -> None:
        self._store = store
        self._clock = clock
        self._rule = (failure_threshold, recovery_threshold, timeout)
        self.breaker = self._build()

    def apply(self, failure_threshold: int, recovery_threshold: int, timeout: float) -> None:
        """Go by another rule from now on; the breaker begins anew, closed."""
        rule = (failure_threshold, recovery_threshold, timeout)
        if rule != self._rule:
            self._rule = rule
            self.breaker = self._build()

    @property
    def policies(self) -> PolicyStore:
        return cast("PolicyStore", _Guarded(self._store.policies, self._ask))

    @property
    def tokens(self) -> TokenStore:
        return cast("TokenStore", _Guarded(self._store.tokens, self._ask))

    @property
    def settings(self) -> SettingsStore:
        return cast("SettingsStore", _Guarded(self._store.settings, self._ask))

    def ping(self) -> None:
        self._ask(self._store.ping)

    def close(self) -> None:
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _build(self) -> CircuitBreaker:
        failure_threshold, recovery_threshold, timeout = self._rule
        # No ramp: the service asks its store a few times a minute, and a share of that is nothing.
        return CircuitBreaker(
            _NAME,
            failure_threshold=failure_threshold,
            recovery_threshold=recovery_threshold,
            recovery_timeout=timeout,
            ramp=(),
            failures=StoreUnavailable,
            clock=self._clock,
        )

    def _ask(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            with self.breaker.guard():
                return method(*args, **kwargs)
        except CircuitOpen as error:
            wait = error.decision.retry_after
            message = (
                "the store kept failing, and is left alone for a while; the log of the service says "
                f"why. Try again in {wait:.1f} s"
            )
            raise StoreUnavailable(message, retry_after=round(wait, 3)) from None


@final
class _Guarded:
    """A part of a store, with the same methods."""

    def __init__(self, part: object, ask: Callable[..., Any]) -> None:
        self._part = part
        self._ask = ask

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return partial(self._ask, getattr(self._part, name))
