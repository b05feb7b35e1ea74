"""What experiment 10 reads out of a run, and what its live half reads out of the nodes' diaries."""

from __future__ import annotations

import json
from math import isnan

import pytest

from headgate.clock import NS_PER_SECOND
from headgate.lab.live import sick_node
from headgate.lab.live.frames import Status
from headgate.lab.sick_node import NODES, OURS, SYSTEMS, Course, Plan, Told, report_of
from headgate.lab.workload import Request

PLAN = Plan(measured=0, sick=2, killed=3, revived=4, well=5, end=6)
TENTH = NS_PER_SECOND // 10


def seconds(number):
    return round(number * NS_PER_SECOND)


@pytest.fixture
def course():
    made = Course(PLAN)
    made.offered = [100] * 6
    made.good = [100, 100, 100, 90, 100, 0]
    made.borrowed = [False] * 60
    made.shed_before, made.shed_after = (10, 0), (110, 2)
    for name in NODES:
        made.pressures[name] = [0.1] * 60
    return made


def test_the_dip_is_that_of_the_worst_second_and_the_last_is_left_out(course):
    assert course.dip == pytest.approx(0.1)
    assert course.healthy_shed == 0.02
    assert course.acting_together == 0.0


def test_publishes_are_counted_from_the_news_on(course):
    course.notes = [
        Told(seconds(1), "c", 1.5),  # before it fell sick
        Told(seconds(2.1), "c", 0.6),
        Told(seconds(2.2), "c", 1.1),
        Told(seconds(2.3), "a", 0.1),
        Told(seconds(2.3), "c", 1.3),
    ]
    assert isnan(course.publishes_until_told)
    course.told_ns = seconds(2.25)
    assert course.publishes_until_told == 1
    course.told_ns = seconds(2.3)
    assert course.publishes_until_told == 2


def test_a_course_in_which_all_went_well_meets_all_but_what_never_came(course):
    report = report_of(dict.fromkeys(SYSTEMS, course), "virtual")
    missed = [claim.text for claim in report.claims if not claim.met]
    assert missed == [
        "goodput dip in the worst second",
        "a node falls sick: all others know it",
        "the store is back: all know all again",
    ]
    assert [row[0] for row in report.rows] == list(SYSTEMS)
    assert any(series.label == f"{OURS}: the sick node" for series in report.series)


# --- diaries ----------------------------------------------------------------------------------------------


def diary(name, origin):
    """A node that sheds one in ten from the illness on, and learns of everything in time."""
    lines = []
    for tenth in range(60):
        offered = tenth * 10
        shed = max(0, tenth - 20)
        borrowed = name == "a" and tenth == 30
        lines.append([tenth * TENTH, "tick", 0.2, 0.3, borrowed, offered, shed])
    lines.append([seconds(2.05), "note", 1.2 if name == "c" else 0.2])
    if name != "c":
        lines.append([seconds(2.1), "sick", ["c"]])
    for other in NODES:
        lines.extend([seconds(at), "heard", other] for at in (1, 4.2))
    return "".join(json.dumps([origin + line[0], *line[1:]]) + "\n" for line in lines)


def test_diaries_are_read_into_the_course(tmp_path, course):
    origin = seconds(1_000)
    for name in NODES:
        (tmp_path / name).write_text(
            diary(name, origin) + '[17, "tick", 0.'
        )  # the last line was cut
    sick_node._Diaries.read(str(tmp_path), origin).fill(course)
    assert course.pressures["d"] == [0.3] * 60
    assert [place for place, borrowed in enumerate(course.borrowed) if borrowed] == [30]
    assert course.shed_before == (600, 0)
    assert course.shed_after == (1500, 90)
    assert course.told_ns == seconds(2.1)
    assert course.agreed_ns == seconds(4.2)
    assert course.publishes_until_told == 1
    assert course.publishes_until_agreed == 0


def test_who_never_learns_of_it_is_told_from_who_does(tmp_path, course):
    for name in NODES:
        text = diary(name, 0)
        (tmp_path / name).write_text(text.replace('"sick"', '"seen"') if name == "b" else text)
    sick_node._Diaries.read(str(tmp_path), 0).fill(course)
    assert course.told_ns == 0
    assert course.agreed_ns > 0


# --- edges ------------------------------------------------------------------------------------------------


class Picker:
    def __init__(self):
        self.out = []
        self.failures = []

    def left_out(self):
        return self.out

    def heard(self, node, *, failed):
        self.failures.append((node.name, failed))


class Node:
    """A node that keeps what it is sent."""

    def __init__(self, name):
        self.name = name
        self.header = ""
        self.sent = []
        self.remote = self

    def submit(self, request):
        self.sent.append(request)


@pytest.fixture
def edge(course):
    made = sick_node._Edge(Picker(), course)
    made.nodes = [Node(name) for name in NODES]
    return made


def asked(number=0):
    return Request(number, seconds(1), seconds(1.5), TENTH)


def test_an_edge_takes_turns_and_leaves_out_who_is_to_be_left_out(edge):
    edge._picker.out = ["b", "c"]
    for number in range(4):
        edge.send(asked(number))
    assert [len(node.sent) for node in edge.nodes] == [2, 0, 0, 2]


def test_what_was_refused_is_tried_once_elsewhere(edge, course):
    request = asked()
    edge.send(request)
    first, second = edge.nodes[1], edge.nodes[2]
    edge.heard(first, request, Status.REJECTED, seconds(1.1))
    assert (first.sent, second.sent) == ([request], [request])
    edge.heard(second, request, Status.REJECTED, seconds(1.2))
    assert course.refused[1] == 1
    assert edge._picker.failures == [("b", True), ("c", True)]
    assert not edge._tried


def test_what_comes_too_late_is_not_good(edge, course):
    before = course.good[1]
    for moment in (1.2, 1.6):
        request = asked()
        edge.send(request)
        edge.heard(edge.nodes[0], request, Status.DONE, seconds(moment))
    assert course.good[1] == before + 1
    assert [failed for _, failed in edge._picker.failures] == [False, True]


def test_a_disturbed_run_is_made_again_and_the_quietest_counts(course):
    runs = [sick_node.Found(course, taken) for taken in (0.5, 0.2, 0.3, 0.0)]
    left = iter(runs)
    assert sick_node.undisturbed(lambda: next(left)) is runs[1]
    assert sick_node.undisturbed(lambda: next(left)) is runs[3]
