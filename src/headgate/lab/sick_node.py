"""What experiment 10 measures, in virtual time and live: one node falls sick, and the store is killed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from headgate.clock import NS_PER_MS, NS_PER_SECOND
from headgate.lab.report import Claim, Report, Series

if TYPE_CHECKING:
    from headgate.lab.report import Cell, Mode

__all__ = [
    "EDGES",
    "LOAD",
    "NODES",
    "OURS",
    "SEATS",
    "SERVICE_NS",
    "SICK",
    "SYSTEMS",
    "TIMEOUT_NS",
    "TITLE",
    "Course",
    "Plan",
    "Told",
    "capacity",
    "report_of",
]

TITLE: Final = "Four nodes, one sick, the store killed meanwhile"
OURS: Final = "Headgate"
NODES: Final = ("a", "b", "c", "d")
SICK: Final = "c"
SEATS: Final = 8
SERVICE_NS: Final = 16 * NS_PER_MS
LOAD: Final = 0.6
SLOWER: Final = 10.0
TIMEOUT_NS: Final = 500 * NS_PER_MS
EDGES: Final = 2
TENTH_NS: Final = 100 * NS_PER_MS

_NOTE_ON_SHEDDING: Final = (
    "what the healthy nodes shed was for bursts of their own, and most of it was done elsewhere"
)
_NOTE_ON_OUTLIERS: Final = (
    "both outlier rules leave out at most one of the four nodes; on nodes that shed by our shedder, and with "
    "a retry elsewhere, both do equally well here"
)

SYSTEMS: Final = {
    "unprotected, in turn": ("nothing", "in turn"),
    "outliers by errors, as Envoy": ("own", "by errors"),
    "all act on the worst pressure": ("worst", "in turn"),
    OURS: ("cluster", "by pressure"),
}
"""By label: the pressure that nodes shed by, and how edges choose nodes."""


@dataclass(frozen=True)
class Plan:
    """The moments of a run, in seconds: what is measured before the illness begins at ``measured``."""

    measured: int = 5
    sick: int = 10
    killed: int = 20
    revived: int = 30
    well: int = 40
    end: int = 60


@dataclass(frozen=True)
class Told:
    """A note that a node left: when, who, and its pressure."""

    at: int
    node: str
    pressure: float


@dataclass
class Course:
    """One system through all of the plan.

    Attributes:
        offered, good, refused: requests that arrived, and those of them done in time, or refused for good, by
            the second of arrival.
        pressures: what each node acts on, every 100 ms.
        borrowed: every 100 ms, whether a healthy node acts on more than its own pressure.
        shed_before, shed_after: (offered, shed) of the healthy nodes when the illness began, and at its end.
        notes: that were left, in order.
        told_ns: when all others knew of the sick node; 0 when they never did.
        agreed_ns: when, after the store was back, all knew what all had told; likewise.
    """

    plan: Plan
    offered: list[int] = field(init=False)
    good: list[int] = field(init=False)
    refused: list[int] = field(init=False)
    pressures: dict[str, list[float]] = field(init=False)
    borrowed: list[bool] = field(default_factory=list)
    shed_before: tuple[int, int] = (0, 0)
    shed_after: tuple[int, int] = (0, 0)
    notes: list[Told] = field(default_factory=list)
    told_ns: int = 0
    agreed_ns: int = 0

    def __post_init__(self) -> None:
        self.offered, self.good, self.refused = ([0] * self.plan.end for _ in range(3))
        self.pressures = {name: [] for name in NODES}

    @property
    def healthy_shed(self) -> float:
        """Of what the healthy nodes were sent while one was sick, the part that they turned away."""
        offered = self.shed_after[0] - self.shed_before[0]
        return (self.shed_after[1] - self.shed_before[1]) / offered

    def success(self, begin: int, end: int) -> float:
        """Of what arrived in these seconds, the part done in time."""
        return sum(self.good[begin:end]) / sum(self.offered[begin:end])

    @property
    def acting_together(self) -> float:
        """The part of the time in which some healthy node acted on more than its own pressure."""
        moments = self.borrowed[self.plan.sick * 10 : self.plan.end * 10]
        return sum(moments) / len(moments)

    @property
    def dip(self) -> float:
        """How far the worst second was below what was usual."""
        plan = self.plan
        worst = min(self.success(second, second + 1) for second in range(plan.sick, plan.end - 1))
        return 1.0 - worst / self.success(plan.measured, plan.sick)

    @property
    def publishes_until_told(self) -> float:
        """Notes of the sick node, from the first that says so until all others know."""
        for note in self.notes:
            is_news = note.node == SICK and note.pressure >= 1.0
            if is_news and note.at >= self.plan.sick * NS_PER_SECOND:
                return self._publishes(note.at, self.told_ns)
        return float("nan")

    @property
    def publishes_until_agreed(self) -> float:
        """Notes of any node, from the store's return until all know what all told."""
        return self._publishes(self.plan.revived * NS_PER_SECOND, self.agreed_ns)

    def _publishes(self, since_ns: int, until_ns: int) -> float:
        """How often a node left a note in that time, the one that did so most; NaN if it never ended."""
        if until_ns == 0:
            return float("nan")
        names = [note.node for note in self.notes if since_ns <= note.at <= until_ns]
        return max((names.count(name) for name in NODES), default=0)


def capacity() -> float:
    """Requests per second that all nodes together can do."""
    return len(NODES) * SEATS * NS_PER_SECOND / SERVICE_NS


def report_of(courses: dict[str, Course], mode: Mode) -> Report:
    """The report on all systems, by label, that went through the same plan."""
    plan = courses[OURS].plan
    columns = ["system", "done in time, while sick", "worst second", "refused"]
    columns += ["healthy nodes shed", "acting on another's pressure", "goodput dip"]
    rows: list[list[Cell]] = [
        [
            label,
            course.success(plan.sick, plan.well),
            min(course.success(second, second + 1) for second in range(plan.sick, plan.end - 1)),
            sum(course.refused) / sum(course.offered),
            course.healthy_shed,
            course.acting_together,
            course.dip,
        ]
        for label, course in courses.items()
    ]
    return Report(
        10,
        TITLE,
        mode,
        _conditions(plan),
        columns,
        rows,
        _series(courses),
        _claims(courses[OURS]),
        notes=[_note_on_dips(plan), _NOTE_ON_SHEDDING, _NOTE_ON_OUTLIERS],
    )


def _note_on_dips(plan: Plan) -> str:
    before = plan.sick - plan.measured
    return f"the dip is of the worst second against the {before} before the illness, by when requests arrived"


def _conditions(plan: Plan) -> dict[str, str]:
    return {
        "nodes": f"{len(NODES)}, each {SEATS} seats, service times exponential with mean "
        f"{SERVICE_NS / 1e6:g} ms, so C = {capacity():,.0f}/s together",
        "load": f"open loop (Poisson), {LOAD:g} C over {EDGES} edges; a caller gives up after "
        f"{TIMEOUT_NS / 1e6:g} ms; what a node refuses is tried once elsewhere",
        "events": f"node {SICK} works at a tenth from {plan.sick} to {plan.well} s; the store is dead, and "
        f"has forgotten all, from {plan.killed} to {plan.revived} s",
        "nodes shed": "for their own load by the tiered shedder, and (p - 0.8) of their arrivals for "
        "what the cluster adds to their pressure p, which is the delay of their queue over 20 ms; "
        "the unprotected do not",
    }


def _claims(course: Course) -> list[Claim]:
    acting = "no cluster-wide shed: time in which a healthy node acts on another's pressure"
    turned_away = "no cluster-wide shed: what healthy nodes turn away"
    sent = "of what they were sent"
    told = "a node falls sick: all others know it"
    agreed = "the store is back: all know all again"
    return [
        Claim(acting, course.acting_together, "<=", 0.02, "of the time"),
        Claim(turned_away, course.healthy_shed, "<=", 0.02, sent),
        Claim("goodput dip in the worst second", course.dip, "<=", 0.05, "of what was usual"),
        Claim(told, course.publishes_until_told, "<=", 2, "publishes"),
        Claim(agreed, course.publishes_until_agreed, "<=", 2, "publishes"),
    ]


def _series(courses: dict[str, Course]) -> list[Series]:
    found = []
    for label, course in courses.items():
        seconds = [float(second) for second in range(course.plan.end)]
        shares = [
            good / max(1, offered)
            for good, offered in zip(course.good, course.offered, strict=True)
        ]
        found.append(Series("done in time", label, seconds[:-1], shares[:-1], "of arrivals"))
    for label in (OURS, "all act on the worst pressure"):
        pressures = courses[label].pressures["a"]
        found.append(_line(f"{label}: a healthy node acts on", pressures))
    found.append(_line(f"{OURS}: the sick node", courses[OURS].pressures[SICK]))
    return found


def _line(label: str, pressures: list[float]) -> Series:
    tenths = [place / 10 for place in range(len(pressures))]
    return Series("pressure", label, tenths, pressures, "p")
