"""Experiments 1 to 3 against a server process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from headgate.clock import NS_PER_MS, NS_PER_SECOND
from headgate.lab.live.load import LiveTime, Remote, Usage, cores, pinned
from headgate.lab.live.process import server_process
from headgate.lab.protections import LIVE
from headgate.lab.workload import Arrivals, Request, Tally, constant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headgate.lab.live.frames import Status
    from headgate.lab.report import Progress

__all__ = ["LiveRuns", "Measured", "calibrate", "run_loads"]

_SERVICE_NS: Final = NS_PER_MS
_TIMEOUT_NS: Final = NS_PER_SECOND // 2
# At 1.2x an unbounded queue takes 2.5 s, and a capacity measured 10 % low 5 s, to outgrow the timeout.
_SETTLING_NS: Final = 5 * NS_PER_SECOND
_MEASURED_NS: Final = 5 * NS_PER_SECOND
_CALIBRATING_NS: Final = 3 * NS_PER_SECOND
_OUTSTANDING: Final = 16
_USERS: Final = 10_000
_TRIES: Final = 3
_UNDISTURBED: Final = 0.98
_DISTURBED: Final = 0.95


@dataclass(frozen=True)
class Measured:
    """One load on one protection.

    Attributes:
        tally: what became of the requests.
        usage: of the server, over the whole run.
        done: requests answered over the whole run.
        core_share: how much of its core the server got; what is missing from 1 went to other programs, or
            there was nothing to do.
        load: as a multiple of the capacity.
    """

    tally: Tally
    usage: Usage
    done: int
    core_share: float
    load: float = 0.0

    @property
    def is_full(self) -> bool:
        """Whether there was enough to do for the whole core."""
        return self.load > 1.0


@dataclass
class LiveRuns:
    """All that were run.

    Attributes:
        capacity: requests per second that the server does with 16 outstanding (closed loop).
        idle_cost: seconds of processor time for a request beside its work, measured along with it.
        core_share: how much of its core the server got when that was measured.
        runs: by protection, in the order of the loads.
    """

    capacity: float
    idle_cost: float
    core_share: float = 1.0
    runs: dict[str, list[Measured]] = field(default_factory=dict)

    @property
    def outcomes(self) -> dict[str, list[Tally]]:
        """The tallies alone."""
        return {label: [one.tally for one in runs] for label, runs in self.runs.items()}

    @property
    def conditions(self) -> dict[str, str]:
        """For a report."""
        server, load = cores()[1], cores()[0]
        where = "both share the only core" if server == load else "each on a core of its own"
        return {
            "server": f"one process that burns {_SERVICE_NS / 1e6:g} ms of processor time for each "
            f"request; measured C = {self.capacity:,.0f}/s (closed loop, {_OUTSTANDING} outstanding)",
            "load": f"open loop (Poisson) over loopback, from {_USERS:,} users; a caller gives up after "
            f"{_TIMEOUT_NS / 1e6:g} ms; server and load {where}",
            "measured": f"{_MEASURED_NS / 1e9:g} s, after {_SETTLING_NS / 1e9:g} s to settle; again, up to "
            f"{_TRIES} times, where others took more than {1 - _UNDISTURBED:.0%} of its core",
        }

    @property
    def notes(self) -> list[str]:
        """What a reader should know to judge the figures: that others disturbed them."""
        shares = [run.core_share for runs in self.runs.values() for run in runs if run.is_full]
        worst = min([self.core_share, *shares])
        if worst >= _DISTURBED:
            return []
        taken = f"Other programs took up to {1 - worst:.0%} of the server's core"
        return [f"{taken}: these figures say little. Repeat on a machine that is quiet."]

    def rejection_cost(self, run: Measured) -> float:
        """Seconds of processor time that one rejection took, parsing and answering included."""
        if not run.usage.rejections:
            return 0.0
        rest = run.usage.overhead - run.done * self.idle_cost
        return max(0.0, rest / run.usage.rejections)

    def rejection_share(self, label: str) -> float:
        """The same as a share of a service, in this protection's last run: the one with most load."""
        return self.rejection_cost(self.runs[label][-1]) * self.capacity


def run_loads(
    loads: Sequence[float],
    labels: Sequence[str],
    progress: Progress,
    shares: Sequence[float] = (0.0, 0.0, 1.0),
) -> LiveRuns:
    """Measure the capacity, then every protection at every load, each with a server of its own."""
    progress(0.0, "measuring the capacity")
    found = calibrate()
    steps = [(label, load) for load in loads for label in labels]
    for step, (label, load) in enumerate(steps):
        progress(step / len(steps), f"{load:g}x, {label}")
        tries = [_run(label, load, found.capacity, shares)]
        while _was_disturbed(tries[-1]) and len(tries) < _TRIES:
            tries.append(_run(label, load, found.capacity, shares))
        found.runs.setdefault(label, []).append(max(tries, key=lambda run: run.core_share))
    return found


def _was_disturbed(run: Measured) -> bool:
    """Whether other programs took the server's core, when it had enough to do for all of it."""
    return run.is_full and run.core_share < _UNDISTURBED


def calibrate() -> LiveRuns:
    """What the server can do, and what a request costs beside its work; again where others disturbed it."""
    tries = [_calibrate()]
    while tries[-1].core_share < _UNDISTURBED and len(tries) < _TRIES:
        tries.append(_calibrate())
    return max(tries, key=lambda found: found.core_share)


def _calibrate() -> LiveRuns:
    time = LiveTime()
    tally = Tally(0, _CALIBRATING_NS, NS_PER_SECOND // 2)
    done = 0
    with server_process(LIVE["unprotected"], core=cores()[1]) as server, pinned(cores()[0]):

        def again(request: Request, _status: Status, _pressure: float, now: int) -> None:
            nonlocal done
            done += 1
            if now < _CALIBRATING_NS:
                remote.submit(_request(request.number + _OUTSTANDING, now))

        with Remote(time, server.port, tally, again) as remote:
            before, before_ns = remote.usage(), time.real_now()
            for number in range(_OUTSTANDING):
                remote.submit(_request(number, time.now))
            time.run(_CALIBRATING_NS)
            after, after_ns = remote.usage(), time.real_now()
    overhead = after.overhead - before.overhead
    core_share = (after.processor - before.processor) * NS_PER_SECOND / (after_ns - before_ns)
    # The best half second: others who use the machine only ever take away.
    return LiveRuns(max(tally.timeline_goodput()[1]), overhead / max(1, done), core_share)


def _request(number: int, now: int) -> Request:
    return Request(number, now, now + _TIMEOUT_NS, _SERVICE_NS)


def _run(label: str, load: float, capacity: float, shares: Sequence[float]) -> Measured:
    time = LiveTime()
    end_ns = _SETTLING_NS + _MEASURED_NS
    tally = Tally(_SETTLING_NS, end_ns, NS_PER_SECOND // 2)
    done = 0

    def answered(_request: Request, status: Status, _pressure: float, _now: int) -> None:
        nonlocal done
        done += status == 0

    with (
        server_process(LIVE[label], core=cores()[1]) as server,
        pinned(cores()[0]),
        Remote(time, server.port, tally, answered) as remote,
    ):
        before, before_ns = remote.usage(), time.real_now()
        Arrivals(
            time,
            load * capacity,
            remote.submit,
            service=constant(_SERVICE_NS),
            timeout_ns=_TIMEOUT_NS,
            shares=shares,
            flow=lambda rng: f"user:{rng.randrange(_USERS)}",
            until_ns=end_ns,
        )
        time.run(end_ns)
        after, after_ns = remote.usage(), time.real_now()
    seconds = (after_ns - before_ns) / NS_PER_SECOND
    usage = Usage(
        after.processor - before.processor,
        after.burnt - before.burnt,
        after.rejections - before.rejections,
    )
    return Measured(tally, usage, done, usage.processor / seconds, load)
