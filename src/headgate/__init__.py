"""Headgate decides, for every request, whether to admit, delay or shed it.

The names below are the public ones; nothing else is. They load when they are first used, so that
``import headgate`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headgate.backpressure.breaker_rule import CircuitState
    from headgate.backpressure.service_classes import ServiceClass
    from headgate.clock import Clock, SystemClock
    from headgate.decision import Decision
    from headgate.errors import (
        CircuitOpen,
        Evicted,
        FeatureOff,
        HeadgateError,
        InvalidCost,
        InvalidInput,
        InvalidKey,
        InvalidPolicy,
        InvalidRate,
        Overloaded,
        QueuedTooLong,
        RateLimited,
        StoreUnavailable,
    )
    from headgate.gates.adaptive_limiter import AdaptiveLimiter
    from headgate.gates.adaptive_rate import AdaptiveRate
    from headgate.gates.admission_queue import AdmissionQueue
    from headgate.gates.async_bounded_loop import AsyncBoundedLoop
    from headgate.gates.async_limiter import AsyncLimiter
    from headgate.gates.bounded_loop import BoundedLoop
    from headgate.gates.circuit_breaker import CircuitBreaker
    from headgate.gates.circuit_events import CircuitEvent, CircuitReport
    from headgate.gates.client_throttle import ClientThrottle
    from headgate.gates.daemon_guard import DaemonGuard
    from headgate.gates.daemon_limits import DaemonLimits
    from headgate.gates.decorator import limit
    from headgate.gates.features import Features
    from headgate.gates.global_pressure import GlobalPressure
    from headgate.gates.inbox import LoopStats
    from headgate.gates.limiter import Limiter, Reservation
    from headgate.gates.load_monitor import LoadMonitor
    from headgate.gates.load_report import LoadReport
    from headgate.gates.load_shedder import LoadShedder
    from headgate.gates.loop_budget import LoopBudget
    from headgate.gates.peer import PeerLimiter
    from headgate.gates.permits import Permit
    from headgate.gates.retry import RetryBudget
    from headgate.gates.upstream import Upstream
    from headgate.rate import Rate

__version__ = "0.1.0"

__all__ = [
    "AdaptiveLimiter",
    "AdaptiveRate",
    "AdmissionQueue",
    "AsyncBoundedLoop",
    "AsyncLimiter",
    "BoundedLoop",
    "CircuitBreaker",
    "CircuitEvent",
    "CircuitOpen",
    "CircuitReport",
    "CircuitState",
    "ClientThrottle",
    "Clock",
    "DaemonGuard",
    "DaemonLimits",
    "Decision",
    "Evicted",
    "FeatureOff",
    "Features",
    "GlobalPressure",
    "HeadgateError",
    "InvalidCost",
    "InvalidInput",
    "InvalidKey",
    "InvalidPolicy",
    "InvalidRate",
    "Limiter",
    "LoadMonitor",
    "LoadReport",
    "LoadShedder",
    "LoopBudget",
    "LoopStats",
    "Overloaded",
    "PeerLimiter",
    "Permit",
    "QueuedTooLong",
    "Rate",
    "RateLimited",
    "Reservation",
    "RetryBudget",
    "ServiceClass",
    "StoreUnavailable",
    "SystemClock",
    "Upstream",
    "limit",
]

_HOMES = {
    "AdaptiveLimiter": "headgate.gates.adaptive_limiter",
    "AdaptiveRate": "headgate.gates.adaptive_rate",
    "AdmissionQueue": "headgate.gates.admission_queue",
    "AsyncBoundedLoop": "headgate.gates.async_bounded_loop",
    "AsyncLimiter": "headgate.gates.async_limiter",
    "BoundedLoop": "headgate.gates.bounded_loop",
    "CircuitBreaker": "headgate.gates.circuit_breaker",
    "CircuitEvent": "headgate.gates.circuit_events",
    "CircuitOpen": "headgate.errors",
    "CircuitReport": "headgate.gates.circuit_events",
    "CircuitState": "headgate.backpressure.breaker_rule",
    "ClientThrottle": "headgate.gates.client_throttle",
    "Clock": "headgate.clock",
    "DaemonGuard": "headgate.gates.daemon_guard",
    "DaemonLimits": "headgate.gates.daemon_limits",
    "Decision": "headgate.decision",
    "Evicted": "headgate.errors",
    "FeatureOff": "headgate.errors",
    "Features": "headgate.gates.features",
    "GlobalPressure": "headgate.gates.global_pressure",
    "HeadgateError": "headgate.errors",
    "InvalidCost": "headgate.errors",
    "InvalidInput": "headgate.errors",
    "InvalidKey": "headgate.errors",
    "InvalidPolicy": "headgate.errors",
    "InvalidRate": "headgate.errors",
    "Limiter": "headgate.gates.limiter",
    "LoadMonitor": "headgate.gates.load_monitor",
    "LoadReport": "headgate.gates.load_report",
    "LoadShedder": "headgate.gates.load_shedder",
    "LoopBudget": "headgate.gates.loop_budget",
    "LoopStats": "headgate.gates.inbox",
    "Overloaded": "headgate.errors",
    "PeerLimiter": "headgate.gates.peer",
    "Permit": "headgate.gates.permits",
    "QueuedTooLong": "headgate.errors",
    "Rate": "headgate.rate",
    "RateLimited": "headgate.errors",
    "Reservation": "headgate.gates.limiter",
    "RetryBudget": "headgate.gates.retry",
    "ServiceClass": "headgate.backpressure.service_classes",
    "StoreUnavailable": "headgate.errors",
    "SystemClock": "headgate.clock",
    "Upstream": "headgate.gates.upstream",
    "limit": "headgate.gates.decorator",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        message = f"module 'headgate' has no attribute {name!r}"
        raise AttributeError(message)
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
