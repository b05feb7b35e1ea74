"""Two thresholds for one resource: a warning at 80 % of its limit, a violation at 100 %.

Counted are the times that a threshold was crossed upwards, not the samples above it: those would
depend on how often somebody looks.
"""

from __future__ import annotations

from enum import StrEnum
from math import isfinite
from typing import Final, final

__all__ = ["WARN_AT", "Status", "Threshold"]

WARN_AT: Final = 0.8
VIOLATE_AT: Final = 1.0


class Status(StrEnum):
    """Where a resource stands."""

    OK = "ok"
    WARN = "warn"
    VIOLATE = "violate"

    @property
    def severity(self) -> int:
        """0 when ok, 1 for a warning, 2 for a violation."""
        return _SEVERITY[self]


_SEVERITY: Final = {Status.OK: 0, Status.WARN: 1, Status.VIOLATE: 2}


@final
class Threshold:
    """Follows one resource.

    >>> memory = Threshold()
    >>> [memory.update(used, 1024.0).value for used in (500.0, 850.0, 1100.0, 500.0)]
    ['ok', 'warn', 'violate', 'ok']
    >>> memory.peak, memory.warnings, memory.violations
    (1100.0, 1, 1)

    Attributes:
        value: the latest reading, in the resource's own unit; None before the first.
        limit: that it was held against; None when there is none.
        status: where it stands.
        peak: the highest reading so far.
        warnings: how often 80 % was crossed upwards.
        violations: how often 100 % was.
    """

    __slots__ = ("limit", "peak", "status", "value", "violations", "warnings")

    def __init__(self) -> None:
        self.value: float | None = None
        self.limit: float | None = None
        self.status = Status.OK
        self.peak = 0.0
        self.warnings = 0
        self.violations = 0

    @property
    def ratio(self) -> float | None:
        """The reading over the limit; None when either is not known."""
        if self.value is None or self.limit is None:
            return None
        return self.value / self.limit

    def update(self, value: float | None, limit: float | None) -> Status:
        """Take a reading in, and say where the resource stands.

        Args:
            value: in the resource's own unit. None, or what is no finite number, is no reading: the resource
                then stands well, because nothing can be held against it.
            limit: in the same unit; None, or what is not above 0, for none.
        """
        self.value = value if value is not None and isfinite(value) else None
        self.limit = limit if limit is not None and limit > 0.0 else None
        before = self.status.severity
        ratio = self.ratio
        if self.value is not None and self.value > self.peak:
            self.peak = self.value
        self.status = Status.OK
        if ratio is not None and ratio >= VIOLATE_AT:
            self.status = Status.VIOLATE
        elif ratio is not None and ratio >= WARN_AT:
            self.status = Status.WARN
        after = self.status.severity
        self.warnings += before < 1 <= after
        self.violations += before < 2 <= after
        return self.status
