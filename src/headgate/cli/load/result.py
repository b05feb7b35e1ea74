"""What a load found out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from headgate.cli.load.drive import Drive

__all__ = ["LoadResult"]

_TOO_BUSY: Final = 0.9


@dataclass
class LoadResult:
    """The figures of one run.

    Attributes:
        what: what was run, in a line.
        seconds: how long it was measured.
        span: seconds from the first request to the last, warm-up included.
        decisions: answers, yes and no.
        admitted: those that were yes.
        errors: answers that were neither, and connections that broke.
        p50, p99, p999: seconds of latency; of a whole pipeline where there is one.
        client_cpu: how much of one core the load itself took.
        server_cpu: seconds of processor time that the server took; None when it could not be told.
        admitted_in_all: yes from the first request on, warm-up included; None when it is not known.
        allowed: the most that the policy allows from the first request to the last.
        warnings: why the figures may be worse than the truth.
    """

    what: str
    seconds: float = 0.0
    span: float = 0.0
    decisions: int = 0
    admitted: int = 0
    errors: int = 0
    p50: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    client_cpu: float = 0.0
    server_cpu: float | None = None
    admitted_in_all: int | None = None
    allowed: int = 0
    warnings: list[str] = field(default_factory=list)

    def take(self, drive: Drive) -> None:
        """The figures of our own load."""
        latencies = drive.latencies
        self.decisions, self.admitted = drive.decisions, drive.admitted
        self.p50 = latencies.percentile(50)
        self.p99 = latencies.percentile(99)
        self.p999 = latencies.percentile(99.9)
        if self.client_cpu > _TOO_BUSY:
            self.warnings.append(
                "the load itself took nearly a whole core, so the service may bear more than this"
            )
        if drive.late:
            self.warnings.append(
                f"{drive.late:,} requests that were due were never sent: the service did not keep up with "
                "the rate, and latencies are worse than shown"
            )

    @property
    def per_second(self) -> float:
        """Decisions a second."""
        return self.decisions / self.seconds if self.seconds else 0.0

    @property
    def cpu_per_decision(self) -> float | None:
        """Seconds of the server's processor time for each decision."""
        if self.server_cpu is None or not self.decisions:
            return None
        return self.server_cpu / self.decisions
