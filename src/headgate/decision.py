"""The one answer that every door returns or renders."""

from __future__ import annotations

from typing import Final, final

from headgate.compiling import mypyc_attr

__all__ = ["NEVER", "Decision"]

NEVER: Final = -1
"""A wait in nanoseconds that means: this cost can never pass, however long the caller waits."""


@final
# Built on every check: the last one freed is used again, and the garbage collector has no work with it.
@mypyc_attr(acyclic=True, free_list_len=1)
class Decision:
    """Whether a request may pass, and all that its caller may want to know (A12).

    Attributes:
        allowed: the answer; ``bool(decision)`` is the same.
        limit: the quota of the deciding limit, in units of cost per window.
        remaining: what may still be spent at once, >= 0.
        retry_after_ns: the least wait after which the same call passes; 0 when it passed, `NEVER` when
            its cost is above the capacity.
        reset_after_ns: the wait until the whole allowance is back, if nothing more is spent.
        delay_ns: for a queueing limit, how long an admitted caller must wait before it proceeds.
        policy: the name of the deciding policy; "" when none applied.
        window_ns: the window that ``limit`` is counted over.
        levels: the answers of all limits that were asked, when there were several; else empty.
        degraded: the shared counters could not be asked, and this is what the policy's failure mode says.
    """

    def __init__(  # noqa: PLR0917, PLR0913 - positional: built on every check
        self,
        allowed: bool,
        limit: int,
        remaining: int,
        retry_after_ns: int,
        reset_after_ns: int,
        delay_ns: int,
        policy: str,
        window_ns: int,
        levels: tuple[Decision, ...] = (),
        degraded: bool = False,
    ) -> None:
        self.allowed = allowed
        self.limit = limit
        self.remaining = remaining
        self.retry_after_ns = retry_after_ns
        self.reset_after_ns = reset_after_ns
        self.delay_ns = delay_ns
        self.policy = policy
        self.window_ns = window_ns
        self.levels = levels
        self.degraded = degraded

    def __bool__(self) -> bool:
        return self.allowed

    @property
    def never_fits(self) -> bool:
        """True when no wait is long enough: the cost is above the capacity."""
        return self.retry_after_ns == NEVER

    @property
    def retry_after(self) -> float:
        """Seconds until the same call passes; 0.0 when it passed, ``inf`` when it never can."""
        if self.retry_after_ns == NEVER:
            return float("inf")
        return self.retry_after_ns / 1e9

    @property
    def reset_after(self) -> float:
        """Seconds until the whole allowance is back."""
        return self.reset_after_ns / 1e9

    @property
    def delay(self) -> float:
        """Seconds that an admitted caller of a queueing limit must wait."""
        return self.delay_ns / 1e9

    def __repr__(self) -> str:
        return (
            f"Decision(allowed={self.allowed}, limit={self.limit}, remaining={self.remaining}, "
            f"retry_after={self.retry_after:g}, reset_after={self.reset_after:g}, "
            f"delay={self.delay:g}, policy={self.policy!r}{', degraded=True' if self.degraded else ''})"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Decision):
            return NotImplemented
        return self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash(self._fields())

    def __reduce__(self) -> tuple[object, ...]:
        return (Decision, self._fields())

    def _fields(self) -> tuple[object, ...]:
        return (
            self.allowed,
            self.limit,
            self.remaining,
            self.retry_after_ns,
            self.reset_after_ns,
            self.delay_ns,
            self.policy,
            self.window_ns,
            self.levels,
            self.degraded,
        )
