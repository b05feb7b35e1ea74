"""The live rig with its real server process. Nothing here depends on how fast the machine is."""

from __future__ import annotations

import os

import pytest

from headgate.errors import Unreachable
from headgate.lab.live import LiveTime, Remote, cores, pinned, server_process, sick_node
from headgate.lab.protections import LIVE, OURS
from headgate.lab.sick_node import OURS as OURS_OF_CLUSTERS
from headgate.lab.sick_node import SYSTEMS, Plan
from headgate.lab.workload import Arrivals, Request, Tally, constant

pytestmark = pytest.mark.slow
SECOND = 1_000_000_000
FOREVER = 3600 * SECOND


def request(number, service_ns=100_000):
    return Request(number, 0, FOREVER, service_ns, 1, f"user:{number}")


def finish(time, remote, patience=60):
    """Run until everything is answered."""
    for _ in range(patience * 100):
        if not remote.in_flight:
            return
        time.run(time.now + SECOND // 100)
    pytest.fail("not answered within a minute")


def drive(what, count, service_ns=100_000, **arguments):
    time, tally, answers = LiveTime(), Tally(0, FOREVER), []
    with server_process(what, **arguments) as server:
        with Remote(time, server.port, tally, lambda *told: answers.append(told)) as remote:
            for number in range(count):
                remote.submit(request(number, service_ns))
            finish(time, remote)
            usage = remote.usage()
        pid = server.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    return tally, answers, usage, remote


def test_every_request_is_answered_and_worked_on():
    tally, answers, usage, _ = drive(LIVE["unprotected"], 50)
    assert sorted(one.number for one, *_ in answers) == list(range(50))
    assert tally.goods_done == 50
    assert usage.rejections == 0
    assert usage.burnt > 0
    assert usage.overhead > 0


def test_what_a_bounded_queue_has_no_room_for_is_refused():
    tally, _, usage, _ = drive(LIVE["bounded queue of 300"], 1000, service_ns=1000)
    assert usage.rejections == sum(tally.rejected) > 0
    assert tally.goods_done + sum(tally.rejected) == 1000


def test_our_gate_runs_in_the_server():
    tally, _, _, _ = drive(LIVE[OURS], 100)
    assert tally.goods_done + sum(tally.rejected) == 100


def test_an_application_may_refuse_fail_and_wait():
    tally, answers, usage, remote = drive("tests.support.live_applications:every_third", 9)
    assert [
        status.name for one, status, *_ in sorted(answers, key=lambda told: told[0].number)
    ] == [
        "DONE",
        "REJECTED",
        "FAILED",
    ] * 3
    assert (usage.rejections, remote.failures) == (3, 3)
    assert tally.goods_done == 3


def test_a_line_of_its_own_may_drop_who_waited():
    _, answers, usage, _ = drive("tests.support.live_applications:drops_even_numbers", 10)
    refused = {one.number for one, status, *_ in answers if status.name == "REJECTED"}
    assert refused == {0, 2, 4, 6, 8}
    assert usage.rejections == 5
    assert {pressure for _, _, pressure, _ in answers if pressure} <= {0.25}


def test_the_speed_can_be_changed():
    time, tally = LiveTime(), Tally(0, FOREVER)
    with server_process(LIVE["unprotected"]) as server, Remote(time, server.port, tally) as remote:
        remote.set_speed(0.1)
        remote.usage()  # what was sent before has been heard when this is answered
        remote.submit(request(0, service_ns=2_000_000))
        finish(time, remote)
    assert tally.latencies_ns[0] >= 20_000_000


def test_arrivals_are_due_when_they_were_drawn_however_late_the_machine_is():
    def moments(time):
        seen = []
        Arrivals(
            time, 2000.0, lambda one: seen.append(one.arrived), service=constant(1), timeout_ns=1
        )
        time.run(SECOND // 4)
        return seen

    seen = moments(LiveTime(seed=5))
    assert seen == moments(LiveTime(seed=5))
    assert len(seen) > 300


def test_a_server_that_does_not_start_is_told(capfd):
    with (
        pytest.raises(Unreachable, match="did not start"),
        server_process("headgate.lab.protections:no_such_thing"),
    ):
        pass
    assert "no_such_thing" in capfd.readouterr().err


def test_a_server_that_dies_ends_the_run():
    time, tally = LiveTime(), Tally(0, FOREVER)
    with server_process(LIVE["unprotected"]) as server, Remote(time, server.port, tally) as remote:
        os.kill(server.pid, 9)
        remote.submit(request(0))
        with pytest.raises((Unreachable, ConnectionError)):
            time.run(60 * SECOND)


def test_cores_are_ours_and_pinning_ends():
    before = os.sched_getaffinity(0)
    assert set(cores()) <= before
    with pinned(cores()[0]):
        assert os.sched_getaffinity(0) == {cores()[0]}
    assert os.sched_getaffinity(0) == before


@pytest.mark.needs_redis
def test_four_processes_go_on_when_one_is_sick_and_their_store_is_killed():
    plan = Plan(measured=0, sick=1, killed=1, revived=2, well=2, end=3)
    course = sick_node.run(plan, *SYSTEMS[OURS_OF_CLUSTERS]).course
    assert sum(course.offered) > 500
    assert sum(course.good) > 0
    assert {note.node for note in course.notes} == set("abcd")
    assert max(course.pressures["c"]) > 0.0
    assert not [note for note in course.notes if 1.3 * SECOND < note.at < 2 * SECOND]
