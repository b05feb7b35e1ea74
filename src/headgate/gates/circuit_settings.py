"""What people say about a breaker, checked and turned into its rule."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from headgate.backpressure.breaker_rule import BreakerRule
from headgate.errors import InvalidInput
from headgate.gates.numbers import valid_number, valid_plain_call, valid_seconds
from headgate.inputs import valid_count

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["failure_types", "listed_calls", "read_rule"]

_SLOTS: Final = 10
_LONGEST_SECONDS: Final = 60.0
_MAX_COUNT: Final = 1_000_000
_MAX_WINDOW_CALLS: Final = 100_000
_MAX_PROBES: Final = 1_000
_MAX_STEPS: Final = 100
_HOUR: Final = 3_600.0
_LEAST_SHARE: Final = 1e-6


def read_rule(  # noqa: PLR0913 - a breaker has as many settings
    *,
    failure_threshold: object,
    failure_rate: object,
    slow_call: object,
    slow_rate: object,
    window: object,
    window_calls: object,
    min_calls: object,
    recovery_timeout: object,
    max_recovery_timeout: object,
    jitter: object,
    max_probes: object,
    recovery_threshold: object,
    call_timeout: object,
    ramp: object,
    ramp_step: object,
    ramp_calls: object,
    forgive_after: object,
) -> BreakerRule:
    """The rule that these settings mean.

    Raises:
        InvalidInput: one of them is none, is out of bounds, or contradicts another.
    """
    open_ns = valid_seconds("recovery_timeout", recovery_timeout)
    calls = 0
    if window_calls is not None:
        calls = valid_count("window_calls", window_calls, _MAX_WINDOW_CALLS)
    least = valid_count("min_calls", min_calls, _MAX_COUNT)
    if calls and least > calls:
        raise InvalidInput(
            f"min_calls must be at most window_calls, got {least} and {calls}; "
            "there would never be enough calls to judge by"
        )
    in_row = 0
    if failure_threshold is not None:
        in_row = valid_count("failure_threshold", failure_threshold, _MAX_COUNT)
    rate = 0.0
    if failure_rate is not None:
        rate = _share("failure_rate", failure_rate)
    elif not in_row:
        rate = 0.5  # something has to open it
    slow_share = _share("slow_rate", slow_rate)
    return BreakerRule(
        in_row=in_row,
        failure_rate=rate,
        slow_rate=0.0 if slow_call is None else slow_share,
        least_calls=least,
        window_calls=calls,
        slots=_SLOTS,
        slot_ns=max(1, valid_seconds("window", window) // _SLOTS),
        open_ns=open_ns,
        longest_ns=_longest(open_ns, max_recovery_timeout),
        jitter=valid_number("jitter", jitter, 0.0, 1.0),
        probes=valid_count("max_probes", max_probes, _MAX_PROBES),
        successes=valid_count("recovery_threshold", recovery_threshold, _MAX_COUNT),
        lease_ns=valid_seconds("call_timeout", call_timeout),
        steps=_steps(ramp),
        step_ns=valid_seconds("ramp_step", ramp_step, _HOUR),
        step_calls=valid_count("ramp_calls", ramp_calls, _MAX_COUNT),
        forgive_ns=valid_seconds("forgive_after", forgive_after),
    )


def failure_types(name: str, kinds: object) -> tuple[type[Exception], ...]:
    """Exception types, one or several.

    Raises:
        InvalidInput: something among them is none. What is only a `BaseException` is none either: a
            cancellation or an interrupt says nothing about the callee.
    """
    listed: tuple[Any, ...] = tuple(kinds) if isinstance(kinds, (tuple, list)) else (kinds,)
    for kind in listed:
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise InvalidInput(
                f"{name} must be Exception types, got {kind!r:.100}; "
                "cancellations and interrupts are never counted"
            )
    return listed


def listed_calls(name: str, calls: object) -> list[Callable[..., object]]:
    """Several things to call.

    Raises:
        InvalidInput: one of them cannot be, or they do not come as a list.
    """
    if not isinstance(calls, Iterable) or isinstance(calls, str):
        raise InvalidInput(f"{name} must be a list of callables, got {type(calls).__name__}")
    found = list(calls)
    for call in found:
        if not callable(call):
            raise InvalidInput(f"{name} must be callables, got {type(call).__name__}")
        valid_plain_call(name, call)
    return found


def _share(name: str, value: object) -> float:
    return valid_number(name, value, _LEAST_SHARE, 1.0, remedy="; leave it out to switch it off")


def _longest(open_ns: int, seconds: object) -> int:
    if seconds is None:
        return max(open_ns, valid_seconds("", _LONGEST_SECONDS))
    longest = valid_seconds("max_recovery_timeout", seconds)
    if longest < open_ns:
        raise InvalidInput(
            "max_recovery_timeout must not be below recovery_timeout, "
            f"got {longest / 1e9:g} and {open_ns / 1e9:g} seconds"
        )
    return longest


def _steps(ramp: object) -> tuple[float, ...]:
    if not isinstance(ramp, Iterable) or isinstance(ramp, (str, bytes)):
        raise InvalidInput(
            f"ramp must be a list of shares such as (0.1, 0.5, 1.0), got {ramp!r:.100}; "
            "() closes the circuit at once"
        )
    steps = tuple(valid_number("a step of ramp", step, _LEAST_SHARE, 1.0) for step in ramp)
    if len(steps) > _MAX_STEPS or list(steps) != sorted(set(steps)):
        raise InvalidInput(f"ramp must be at most {_MAX_STEPS} growing shares, got {steps!r:.100}")
    return steps
