"""One experiment that fails keeps its failure to itself."""

from __future__ import annotations

import pytest

from headgate.errors import NotFound, Unreachable
from headgate.lab.experiments import all_experiments, experiment
from headgate.lab.report import Claim, Experiment, Report, ignore_progress
from headgate.lab.running import run_experiment, run_side_by_side
from headgate.testing import ManualClock


def make(virtual, live=None):
    return Experiment(3, "title", "question", virtual, live)


def found(seed, progress, measured=1.0):
    return Report(
        3, "title", "virtual", {"seed": str(seed)}, [], [], claims=[Claim("c", measured, ">=", 1)]
    )


def run(one, **settings):
    return run_experiment(one, ManualClock(), ignore_progress, **settings)


def test_a_run_passes_the_seed_and_tells_how_long_it_took():
    clock = ManualClock()

    def virtual(seed, progress):
        clock.advance(2.5)
        return found(seed, progress)

    outcome = run_experiment(make(virtual), clock, ignore_progress, seed=9)
    assert outcome.seconds == 2.5
    assert outcome.met
    assert outcome.members()["conditions"] == {"seed": "9"}


def test_a_missed_claim_is_not_met():
    outcome = run(make(lambda seed, progress: found(seed, progress, 0.5)))
    assert not outcome.met
    assert outcome.members()["met"] is False


def test_a_defect_is_a_failure_with_its_details():
    outcome = run(make(lambda seed, progress: 1 / 0))
    assert (outcome.met, outcome.report) == (False, None)
    assert outcome.failure == "ZeroDivisionError: division by zero"
    assert "Traceback" in outcome.details
    assert outcome.members()["failure"] == outcome.failure


def test_an_error_of_ours_is_told_without_a_traceback():
    def live(progress):
        raise Unreachable("it is gone")

    outcome = run(make(found, live), live=True)
    assert (outcome.failure, outcome.details) == ("unreachable: it is gone", "")


def test_a_live_half_that_is_not_there():
    assert run(make(found), live=True).failure == "it has no live half"


def test_stopping_the_command_is_no_failure_of_an_experiment():
    def interrupted(seed, progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(make(interrupted))


def test_experiments_are_found_by_number():
    numbers = [one.number for one in all_experiments()]
    assert numbers == sorted(set(numbers))
    assert {1, 2, 3} <= set(numbers)
    assert experiment(2).name == "exp02"
    with pytest.raises(NotFound, match="there is no experiment 99"):
        experiment(99)


@pytest.mark.slow
def test_side_by_side_each_has_a_process_whose_error_comes_home():
    with pytest.raises(NotFound, match="there is no experiment 99"):
        list(run_side_by_side([99], seed=1, jobs=1))
