"""What the end of a call says about the callee.

It failed when the call raised one of the ``failures``. Nothing is said by a refusal of our own
(`RateLimited` and all below it), by a cancellation, by a generator that was closed or came to its end, by
what the breaker was told to ignore, and by every exception that is not among the failures.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, final

from headgate.backpressure.breaker import IGNORED, MAX_TOLD_NS
from headgate.backpressure.outcome_window import FAILED, SUCCEEDED
from headgate.clock import NS_PER_SECOND, seconds_to_ns
from headgate.errors import InvalidInput, RateLimited

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Outcomes"]

_log = logging.getLogger("headgate.breaker")
_NO_FAILURES: Final = (RateLimited, StopIteration, StopAsyncIteration)
# That of concurrent.futures is an Exception, and who does not use that should not have to load it.
_CANCELLED: Final = "CancelledError"


@final
class Outcomes:
    """Reads outcomes off exceptions.

    Args:
        failures: what counts as the callee's failure.
        ignore: what does not, though it is among the failures.
        retry_after: given such an exception, the seconds for which the callee asked to be left alone;
            the exception's own ``retry_after`` when left out.
        failed_result: given what a call returned, whether that is a failure.

    Attributes:
        judges_results: whether what a call returns matters.
    """

    def __init__(
        self,
        failures: tuple[type[Exception], ...],
        ignore: tuple[type[Exception], ...],
        retry_after: Callable[[BaseException], float | None] | None,
        failed_result: Callable[[Any], object] | None,
    ) -> None:
        self._failures = failures
        self._ignore = (*_NO_FAILURES, *ignore)
        self._retry_after = retry_after
        self._failed_result = failed_result
        self.judges_results = failed_result is not None

    def judge(self, outcome: object) -> tuple[int, int]:
        """What was told of a call: the verdict, and for how long the callee asked to be left alone (ns).

        Raises:
            InvalidInput: it is nothing that can be told.
        """
        if outcome is True:
            return SUCCEEDED, 0
        if outcome is False:
            return FAILED, 0
        if outcome is None:
            return IGNORED, 0
        if not isinstance(outcome, BaseException):
            raise InvalidInput(
                "outcome must be True (well), False (failed), None (nothing is known) or the "
                f"exception that was raised, got {type(outcome).__name__}"
            )
        verdict = self.of(outcome)
        return verdict, self.told_ns(outcome) if verdict == FAILED else 0

    def of_result(self, result: object) -> int:
        """`FAILED` or `SUCCEEDED`."""
        if self._failed_result is None:
            return SUCCEEDED
        return FAILED if self._failed_result(result) else SUCCEEDED

    def of(self, error: BaseException) -> int:
        """`FAILED` or `IGNORED`."""
        if isinstance(error, BaseExceptionGroup):
            parts = [self.of(part) for part in error.exceptions]
            return FAILED if FAILED in parts else IGNORED
        if not isinstance(error, self._failures) or isinstance(error, self._ignore):
            return IGNORED
        return IGNORED if type(error).__name__ == _CANCELLED else FAILED

    def told_ns(self, error: BaseException) -> int:
        """For how long the callee asked to be left alone, in nanoseconds; 0 when it did not."""
        try:
            if self._retry_after is None:
                seconds = getattr(error, "retry_after", None)
            else:
                seconds = self._retry_after(error)
        except Exception:  # noqa: BLE001 - it is the user's, and observes
            _log.exception("retry_after raised; the callee is taken to have said nothing")
            return 0
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
            return 0
        if not seconds > 0:  # nor is NaN
            return 0
        return seconds_to_ns(min(seconds, MAX_TOLD_NS / NS_PER_SECOND))
