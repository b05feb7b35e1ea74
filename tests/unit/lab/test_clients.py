"""Experiments 4 and 5, shortened, and what they are made of."""

from __future__ import annotations

import pytest

from headgate.lab.client_runs import ClientRun, Kind
from headgate.lab.clients import Clients, Pressed
from headgate.lab.experiments import exp04_client_throttle, exp05_capacity_dip
from headgate.lab.manners import EnvoyAdmission, GrpcRetries, Ours, PlainRetries
from headgate.lab.report import ignore_progress
from headgate.lab.simulation import Simulation
from headgate.lab.workload import Request, Tally

S = 1_000_000_000


@pytest.mark.slow
def test_clients_that_listen_spare_the_server():
    report = exp04_client_throttle.virtual(1, ignore_progress, loads=(4.0,), seconds=2.0)
    assert [row[1] for row in report.rows][-1].startswith("Headgate")
    assert [claim.text for claim in report.claims if not claim.met] == []
    bare, *_, ours = report.rows
    assert bare[2] > 3.5
    assert ours[2] <= 2.0


@pytest.mark.slow
def test_a_dip_is_over_when_it_is_over():
    report = exp05_capacity_dip.virtual(1, ignore_progress, before=5, after=16)
    assert [claim.text for claim in report.claims if not claim.met] == []
    bare, *_, ours = report.rows
    assert bare[4] == 0.0
    assert ours[4] > 0.75


def kind(protection, manner):
    return Kind("kind", protection, "", manner)


def test_the_same_seed_gives_the_same_figures():
    ours = kind(Pressed, lambda time, number: Ours(time.clock, time.stream(f"{number}").random))
    run = ClientRun(3.0, settle=0.2, seconds=0.5)
    one, same, other = (run.virtual(seed, ours) for seed in (1, 1, 2))
    assert (one.goodput, one.load_seen, one.withheld) == (
        same.goodput,
        same.load_seen,
        same.withheld,
    )
    assert one.asked.latencies_ns == same.asked.latencies_ns
    assert one.asked.latencies_ns != other.asked.latencies_ns


class Never:
    """A backend that says nothing."""

    def __init__(self):
        self.attempts = []

    def submit(self, request):
        self.attempts.append(request)


@pytest.fixture
def setting():
    time = Simulation(1)
    tally = Tally(0, 100 * S)
    clients = Clients(time, [PlainRetries(3, time.stream("client"))], tally, S)
    clients.backend = Never()
    return time, tally, clients


def test_an_attempt_without_an_answer_is_given_up_and_tried_again(setting):
    time, tally, clients = setting
    clients.ask(Request(0, 0, 10 * S, 1))
    time.run(20 * S)
    attempts = clients.backend.attempts
    assert [attempt.attempt for attempt in attempts] == [1, 2, 3]
    assert all(attempt.deadline <= attempt.arrived + S for attempt in attempts)
    assert sum(tally.rejected) == 1


def test_no_attempt_begins_after_the_user_has_gone(setting):
    time, tally, clients = setting
    clients.ask(Request(0, 0, S, 1))
    time.run(20 * S)
    assert len(clients.backend.attempts) == 1
    assert sum(tally.rejected) == 1


def test_an_answer_that_comes_too_late_is_not_heard(setting):
    time, tally, clients = setting
    clients.ask(Request(0, 0, S, 1))
    time.run(2 * S)
    clients.answered(clients.backend.attempts[0], False, 0.0, time.now)
    assert tally.goods_done == 0


def test_an_answer_in_time_is_good_whichever_attempt_it_was_for(setting):
    time, tally, clients = setting
    clients.ask(Request(0, 0, 10 * S, 1))
    clients.answered(clients.backend.attempts[0], True, 0.0, 0)
    time.run(S // 2)
    clients.answered(clients.backend.attempts[1], False, 0.0, time.now)
    assert tally.goods_done == 1
    assert tally.latencies_ns == [S // 2]


def test_grpc_stops_retrying_at_half_of_its_tokens():
    time = Simulation(1)
    manner = GrpcRetries(3, time.stream("client"))
    waits = [manner.begin(2).ended("lost", 0.0) for _ in range(6)]
    assert [wait is None for wait in waits] == [False] * 4 + [True] * 2
    for _ in range(11):
        manner.begin(2).ended("done", 0.0)
    assert manner.tokens == pytest.approx(5.1)


def test_envoy_refuses_at_most_eight_in_ten():
    time = Simulation(1)
    manner = EnvoyAdmission(time.clock, time.stream("client"))
    manner.window.add(1_000, 0, 0)
    sent = sum(manner.begin(2) is not None for _ in range(2_000))
    assert 300 < sent < 500
