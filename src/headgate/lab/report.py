"""What an experiment hands back, and what an experiment is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any, Final, Literal

__all__ = [
    "Claim",
    "Experiment",
    "Mode",
    "Progress",
    "Report",
    "Series",
    "cell_text",
    "ignore_progress",
]

Mode = Literal["virtual", "live"]
Relation = Literal[">=", "<=", "=="]
Cell = str | int | float

Progress = Callable[[float, str], None]
"""Told now and then: how much is done (0 to 1), and what is being done."""


def ignore_progress(done: float, what: str) -> None:
    """For runs that nobody watches."""


@dataclass(frozen=True)
class Claim:
    """Something that an experiment must show.

    >>> Claim("goodput at 2x", 0.981, ">=", 0.97, "of capacity").met
    True

    Attributes:
        text: what is claimed.
        measured: what it came to; a value that is no number never meets the claim.
        relation: how it must stand to the bound.
        bound: the bound.
        unit: of both.
    """

    text: str
    measured: float
    relation: Relation
    bound: float
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether it holds."""
        if not isfinite(self.measured):
            return False
        if self.relation == ">=":
            return self.measured >= self.bound
        if self.relation == "<=":
            return self.measured <= self.bound
        return self.measured == self.bound


@dataclass(frozen=True)
class Series:
    """A line to draw.

    Attributes:
        panel: what its y means; those of one panel are drawn together, such as "goodput" or "latency".
        label: whose line it is.
        x: seconds since the beginning of the run, or what ``Report.x_label`` says.
        y: the values, one for each x.
        unit: of y.

    Raises:
        ValueError: there are more of one than of the other.
    """

    panel: str
    label: str
    x: list[float]
    y: list[float]
    unit: str = ""

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(
                f"a series needs a y for each x; {self.label!r} of {self.panel!r} has {len(self.x)} x "
                f"and {len(self.y)} y"
            )


@dataclass
class Report:
    """The outcome of an experiment.

    Attributes:
        number, title: of the experiment.
        mode: "virtual" or "live".
        conditions: what was set up, as name and value, in reading order.
        columns: of the table.
        rows: of the table; numbers are rounded for reading when they are shown.
        series: what is drawn.
        claims: what must be shown.
        x_label: what the series' x is.
        log_x: whether x is drawn on a logarithmic scale.
        notes: what a reader should know to judge it.
    """

    number: int
    title: str
    mode: Mode
    conditions: dict[str, str]
    columns: list[str]
    rows: list[list[Cell]]
    series: list[Series] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    x_label: str = "seconds"
    log_x: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def met(self) -> bool:
        """Whether all claims hold; a report that claims nothing shows nothing."""
        return bool(self.claims) and all(claim.met for claim in self.claims)

    def members(self) -> dict[str, Any]:
        """For JSON: everything, with what is no number as null."""
        written: dict[str, Any] = _without_nan(asdict(self))
        for claim, members in zip(self.claims, written["claims"], strict=True):
            members["met"] = claim.met
        written["met"] = self.met
        return written


@dataclass(frozen=True)
class Experiment:
    """One of the ten.

    Attributes:
        number: 1 to 10.
        title: in a few words.
        question: what it asks, in a sentence.
        virtual: ``virtual(seed, progress)`` runs it in virtual time.
        live: ``live(progress)`` runs it against real processes; None when it has no live half.
    """

    number: int
    title: str
    question: str
    virtual: Callable[[int, Progress], Report]
    live: Callable[[Progress], Report] | None = None

    @property
    def name(self) -> str:
        """For file names: ``exp01``."""
        return f"exp{self.number:02d}"


_DIGITS: Final = 3
_THOUSAND: Final = 999.5


def cell_text(cell: Cell) -> str:
    """A cell as it is read: numbers at three significant digits, whole ones in full.

    >>> [cell_text(cell) for cell in ("FIFO", 12_345, 0.98765, 1234.5, 0.0, float("nan"))]
    ['FIFO', '12,345', '0.988', '1,234', '0', '-']
    """
    if isinstance(cell, str):
        return cell
    if not isfinite(cell):
        return "-"
    if isinstance(cell, int) or abs(cell) >= _THOUSAND:
        return f"{cell:,.0f}"
    return f"{cell:.{_DIGITS}g}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(member) for member in value]
    return None if isinstance(value, float) and not isfinite(value) else value
