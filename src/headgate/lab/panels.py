"""What the charts of a report have in common, on a terminal and on paper."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from headgate.lab.report import Report, Series

__all__ = ["Panel", "is_bare", "is_bound", "is_ours", "panels_of"]

_BOUNDS: Final = frozenset({"bound", "capacity", "target", "ideal", "feasible", "offered"})
# From here on small values would lie flat on the axis.
_DECADES: Final = 30.0


@dataclass(frozen=True)
class Panel:
    """The lines that share an axis.

    Attributes:
        name: what they show.
        unit: of y.
        lines: ours last, so that it is drawn over the others.
        log_y: whether small and large values are both worth seeing.
    """

    name: str
    unit: str
    lines: list[Series]
    log_y: bool

    @property
    def heading(self) -> str:
        """The name with its unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


def panels_of(report: Report) -> list[Panel]:
    """In the order in which the report names them; lines without any finite value are left out."""
    names = dict.fromkeys(series.panel for series in report.series)
    found = []
    for name in names:
        lines = [one for one in report.series if one.panel == name and any(map(isfinite, one.y))]
        if lines:
            lines.sort(key=lambda one: is_ours(one.label))
            found.append(Panel(name, lines[0].unit, lines, _is_wide(lines)))
    return found


def is_ours(label: str) -> bool:
    """Whether a line shows Headgate: then its label begins so."""
    return label.lower().startswith(("headgate", "ours"))


def is_bare(label: str) -> bool:
    """Whether a line shows the unprotected system."""
    return label.lower().startswith("unprotected")


def is_bound(label: str) -> bool:
    """Whether a line shows no system, but what one is held against."""
    return label.lower().replace(",", " ").partition(" ")[0] in _BOUNDS


def _is_wide(lines: list[Series]) -> bool:
    values = [value for one in lines for value in one.y if isfinite(value)]
    return min(values) > 0 and max(values) / min(values) > _DECADES
