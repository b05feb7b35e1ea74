"""Running experiments: one that fails does not keep the others from running."""

from __future__ import annotations

import traceback
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from headgate.clock import SystemClock
from headgate.errors import HeadgateError
from headgate.lab.experiments import experiment as find_experiment
from headgate.lab.report import ignore_progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from headgate.clock import Clock
    from headgate.lab.report import Experiment, Progress, Report

__all__ = ["Outcome", "run_experiment", "run_side_by_side"]


@dataclass(frozen=True)
class Outcome:
    """One experiment that was run.

    Attributes:
        experiment: which.
        report: what it found; None when it failed.
        failure: why it failed, in a line; "" when it did not.
        details: of a failure that is a defect: where it came from.
        seconds: it took.
    """

    experiment: Experiment
    report: Report | None
    failure: str
    details: str
    seconds: float

    @property
    def met(self) -> bool:
        """Whether everything was shown that must be."""
        return self.report is not None and self.report.met

    def members(self) -> dict[str, Any]:
        """For JSON."""
        written: dict[str, Any] = {
            "number": self.experiment.number,
            "title": self.experiment.title,
            "met": self.met,
        }
        if self.report is not None:
            written.update(self.report.members())
        else:
            written["failure"] = self.failure
        return written


def run_experiment(
    experiment: Experiment, clock: Clock, progress: Progress, *, seed: int = 1, live: bool = False
) -> Outcome:
    """Run one half of it.

    Args:
        experiment: which; asked for its live half, it must have one.
        clock: tells how long it took.
        progress: told now and then.
        seed: of the virtual half.
        live: against real processes, in real time.
    """
    began = clock.now_ns()
    report, failure, details = None, "", ""
    try:
        if not live:
            report = experiment.virtual(seed, progress)
        elif experiment.live is None:
            failure = "it has no live half"
        else:
            report = experiment.live(progress)
    except HeadgateError as error:
        failure = f"{error.code}: {error.message}"
    except Exception as error:  # noqa: BLE001 - a defect in one must not hide the others
        failure = f"{type(error).__name__}: {error}"
        details = traceback.format_exc()
    return Outcome(experiment, report, failure, details, (clock.now_ns() - began) / 1e9)


def run_side_by_side(numbers: Iterable[int], seed: int, jobs: int) -> Iterator[Outcome]:
    """Run virtual halves, several at a time, each in a process; outcomes come in the order asked for."""
    # A fresh interpreter for each process: what this one holds (threads, terminals) is not copied.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(partial(_run_by_number, seed), numbers)


def _run_by_number(seed: int, number: int) -> Outcome:
    return run_experiment(find_experiment(number), SystemClock(), ignore_progress, seed=seed)
