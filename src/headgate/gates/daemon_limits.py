"""How much a daemon may do at a time: defaults, profiles, the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, final

from headgate.errors import ConfigurationError, InvalidInput
from headgate.gates.numbers import valid_number
from headgate.inputs import valid_count

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

__all__ = ["PROFILES", "DaemonLimits"]

_PREFIX: Final = "HEADGATE_"
_MAX_COUNT: Final = 1_000_000
_MAX_SECONDS: Final = 366 * 86_400.0
_HUGE: Final = 1e12
_UNLIMITED: Final = ("off", "none", "unlimited")
_RESOURCES: Final = ("max_memory_mb", "max_cpu_percent")
_COUNTS: Final = ("max_requests_per_minute", "max_concurrent_requests", "max_connections")

PROFILES: Final[Mapping[str, Mapping[str, float]]] = MappingProxyType(
    {
        "default": {},
        "high-volume": {
            "max_memory_mb": 4096,
            "max_cpu_percent": 400,
            "max_requests_per_minute": 20_000,
            "max_concurrent_requests": 500,
            "max_connections": 1000,
        },
        "low-memory": {
            "max_memory_mb": 256,
            "max_cpu_percent": 100,
            "max_requests_per_minute": 1000,
            "max_concurrent_requests": 25,
            "max_connections": 50,
            "stale_connection_seconds": 60,
        },
        "development": {
            "max_memory_mb": 512,
            "max_requests_per_minute": 600,
            "max_concurrent_requests": 10,
            "max_connections": 20,
            "stale_connection_seconds": 60,
            "monitor_interval": 10,
            "summary_interval": 60,
        },
    }
)
"""What each profile sets in place of the defaults."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonLimits:
    """The limits of one daemon.

    >>> DaemonLimits.load(
    ...     {"HEADGATE_PROFILE": "low-memory", "HEADGATE_MAX_CONNECTIONS": "8"}
    ... ).max_connections
    8

    Attributes:
        max_memory_mb: resident memory in MB of 1048576 bytes; None for no limit.
        max_cpu_percent: processor time; 100 is one processor. None for no limit.
        max_requests_per_minute: that begin in any minute.
        max_concurrent_requests: under way at a time.
        max_connections: open at a time.
        stale_connection_seconds: after so long without a request, a connection is closed.
        connection_grace_seconds: the same while all connections are taken and others wait.
        monitor_interval: seconds between lines of the log about resources.
        summary_interval: seconds between lines about requests.
        profile: what the rest was derived from.

    Raises:
        InvalidInput: a limit makes no sense.
    """

    max_memory_mb: float | None = 1024
    max_cpu_percent: float | None = 200
    max_requests_per_minute: int = 2000
    max_concurrent_requests: int = 100
    max_connections: int = 100
    stale_connection_seconds: float = 300.0
    connection_grace_seconds: float = 10.0
    monitor_interval: float = 60.0
    summary_interval: float = 300.0
    profile: str = "default"

    def __post_init__(self) -> None:
        if self.profile not in tuple(PROFILES):  # which need not be hashable
            raise InvalidInput(
                f"profile must be one of {', '.join(PROFILES)}, got {self.profile!r:.60}"
            )
        for name in _RESOURCES:
            if getattr(self, name) is not None:
                valid_number(name, getattr(self, name), 1e-6, _HUGE, "; None sets no limit")
        for name in _COUNTS:
            valid_count(name, getattr(self, name), _MAX_COUNT)
        for name in (
            "stale_connection_seconds",
            "connection_grace_seconds",
            "monitor_interval",
            "summary_interval",
        ):
            valid_number(name, getattr(self, name), 0.001, _MAX_SECONDS)

    @classmethod
    def of_profile(cls, profile: str, **changes: Any) -> Self:
        """The limits of a profile, with these in place of its own.

        Raises:
            InvalidInput: there is no such profile, or a limit makes no sense.
        """
        base: Mapping[str, Any] = PROFILES.get(profile, {})
        return cls(**{**base, **changes, "profile": profile})

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the environment: ``HEADGATE_PROFILE``, then ``HEADGATE_MAX_MEMORY_MB`` and so on.

        Each limit is ``HEADGATE_`` and its name in capitals. ``off`` sets no limit of memory or processor.

        Args:
            environ: the variables; of this process when left out.

        Raises:
            ConfigurationError: a variable cannot be used.
        """
        environ = os.environ if environ is None else environ
        profile = environ.get(f"{_PREFIX}PROFILE") or "default"
        try:
            limits = cls.of_profile(profile)
        except InvalidInput as error:
            raise _unusable("PROFILE", error) from None
        for field in fields(cls):
            text = environ.get(_PREFIX + field.name.upper())
            if field.name != "profile" and text:  # empty is how compose files say "not set"
                try:
                    limits = replace(limits, **{field.name: _read(field.name, text.strip())})
                except InvalidInput as error:
                    raise _unusable(field.name.upper(), error) from None
        return limits


def _read(name: str, text: str) -> Any:
    """The value, of the field's type.

    Raises:
        InvalidInput: the text is no number.
    """
    if name in _RESOURCES and text.lower() in _UNLIMITED:
        return None
    try:
        return int(text) if name in _COUNTS else float(text)
    except ValueError:
        kind = "a whole number" if name in _COUNTS else "a number"
        raise InvalidInput(f"{name} must be {kind}, got {text!r:.60}") from None


def _unusable(name: str, error: InvalidInput) -> ConfigurationError:
    variable = _PREFIX + name
    return ConfigurationError(f"{variable}: {error.message}", setting=variable)
