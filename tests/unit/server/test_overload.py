"""What the service sheds, and what it says about it."""

from __future__ import annotations

import contextlib
import json

import pytest

from headgate.engine.engine import Engine
from headgate.engine.pressures import PressureNote, Pressures
from headgate.errors import Overloaded
from headgate.gates.global_pressure import GlobalPressure
from headgate.gates.load_report import LoadReport
from headgate.policy.model import Policy
from headgate.server.auth import Gatekeeper
from headgate.server.heads import HeadBook
from headgate.server.lane import CheckLane
from headgate.server.overload import Overload
from headgate.server.pressure import Pressure
from headgate.server.problems import problem_fields, problem_members
from headgate.server.render import Renderer, split_tail
from headgate.server.service import CheckService
from headgate.server.wire import CheckRequest, decode_check
from headgate.storage import open_store
from headgate.testing import ManualClock

POLICIES = [
    {"name": "all", "limit": 10, "window": "1m", "dimensions": ["key"]},
    {"name": "jobs", "limit": 10, "window": "1m", "dimensions": ["job"], "priority": "low"},
    {"name": "pay", "limit": 10, "window": "1m", "dimensions": ["pay"], "priority": "critical"},
]


class Setup:
    def __init__(self) -> None:
        self.clock = ManualClock(start_ns=10**15)
        self.chance = 0.5
        self.overload = Overload(self.clock, lambda: self.chance)
        self.engine = Engine(self.clock)
        for document in POLICIES:
            self.engine.set_policy(Policy.from_dict(document))
        self.service = CheckService(self.engine, 1024, self.overload)

    def press(self, pressure: float, steps: int = 1) -> None:
        for _ in range(steps):
            self.clock.advance(0.1)
            self.overload.look(pressure, pressure)


@pytest.fixture
def setup() -> Setup:
    return Setup()


def test_up_to_the_threshold_nothing_is_shed(setup):
    setup.press(1.0, 100)
    assert not setup.overload.sheds
    assert setup.overload.parts() == [0.0] * 4


def test_what_is_shed_grows_while_the_pressure_stays_and_eases_off_after(setup):
    setup.press(2.0, 3)
    assert setup.overload.sheds
    assert setup.overload.parts() == pytest.approx([0.03, 0.15, 0.3, 0.3])
    setup.press(2.0, 97)
    assert setup.overload.parts() == pytest.approx([0.1, 0.5, 0.99, 0.99])
    setup.press(0.0, 10)
    assert not setup.overload.sheds


def test_a_request_says_what_it_is_or_its_policies_do(setup):
    setup.press(2.0, 6)  # of normal and low 60 %, of high 30 %, of critical 6 %
    service = setup.service
    for key, metadata, priority in (
        ("k", {}, None),
        ("k", {"job": "a"}, None),
        ("k", {"pay": "a"}, "low"),
        ("k", {"pay": "a"}, 2),
    ):
        with pytest.raises(Overloaded):
            service.check(key, 1, dict(metadata), 0, priority)
    assert service.check("k", 1, {"pay": "a"}).allowed
    assert service.check("k", 1, {"job": "a"}, 0, "high").allowed
    assert service.check("k", 1, {}, 0, 0).remaining == 7
    assert setup.overload.shed == [0, 0, 2, 2]
    assert setup.overload.asked == 7


def test_what_is_shed_spends_nothing_and_what_ends_work_is_never_shed(setup):
    service = setup.service
    held = service.reserve("k", 4, {}, 60.0)
    setup.press(2.0, 50)
    for call in (
        lambda: service.check("k", 1, {}),
        lambda: service.peek("k", 1, {}),
        lambda: service.reserve("k", 1, {}, 60.0),
    ):
        with pytest.raises(Overloaded):
            call()
    assert service.commit(held.id, 1).remaining == 9
    assert service.refund("k", 1, {}).remaining == 10


def test_items_of_a_batch_are_shed_each_for_itself(setup):
    setup.press(2.0, 6)
    checks = [CheckRequest("k", 1, {}, "critical"), CheckRequest("k", 1, {}, "low")]
    first, second = setup.service.check_all(checks)
    assert (first.allowed, second.allowed) == (True, False)
    first, second = json.loads(Renderer().results([first, second]))["results"]
    assert "code" not in first
    assert second == {
        "allowed": False, "policy": "(overload, low)", "limit": 0, "remaining": 0,
        "retry_after": 2.0, "reset_after": 2.0, "delay": 0.0, "code": "overloaded",
    }  # fmt: skip


def test_when_to_come_back_differs(setup):
    setup.press(2.0, 50)
    waits = set()
    for chance in (0.0, 0.2, 0.4, 0.6, 0.8):
        setup.chance = chance
        with pytest.raises(Overloaded) as caught:
            setup.service.check("k", 1, {}, 0, "low")
        waits.add(round(caught.value.decision.retry_after, 3))
        assert dict(problem_fields(caught.value))[b"retry-after"] in {b"1", b"2", b"3"}
    assert waits == {1.0, 1.4, 1.8, 2.2, 2.6}


def test_other_settings_hold_at_once_and_the_same_change_nothing(setup):
    setup.press(2.0, 6)
    setup.overload.apply(1.0, 0.1, (0.1, 0.5, 1.0, 1.0))
    assert setup.overload.sheds
    setup.overload.apply(1.0, 0.0, (0.1, 0.5, 1.0, 1.0))
    assert not setup.overload.sheds
    setup.press(2.0, 100)
    assert not setup.overload.sheds
    setup.overload.apply(0.5, 0.1, (0.0, 0.0, 0.0, 1.0))
    setup.press(0.6, 100)
    assert setup.overload.parts() == [0.0, 0.0, 0.0, pytest.approx(0.99)]


def lane_of(setup: Setup) -> CheckLane:
    gate = Gatekeeper(open_store("memory://", setup.clock).tokens, setup.clock)
    gate.open(is_loopback=True)
    heads = HeadBook(gate, max_body=1_000)
    return CheckLane(setup.service, Renderer(), decode_check, heads.known, heads.read)


def test_the_lane_answers_what_is_shed(setup):
    lane = lane_of(setup)
    body = b'{"key": "a", "priority": "low"}'
    head = b"POST /api/v1/check HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    request = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    fields = [(b"date", b"today")]
    assert lane.answer(request, fields).startswith(b"HTTP/1.1 200 OK\r\n")
    setup.press(2.0, 50)
    answers = lane.answer(request * 3, fields)
    assert answers.count(b"HTTP/1.1 503 Service Unavailable\r\ndate: today\r\n") == 3
    assert (lane.taken, lane.shed, lane.admitted, lane.denied) == (3 * len(request), 3, 1, 0)


def test_the_lane_s_words_are_those_of_the_problem(setup):
    setup.press(2.0, 50)
    with pytest.raises(Overloaded) as caught:
        setup.service.check("k", 1, {})
    error = caught.value
    fields, body = split_tail(Renderer().overloaded(error.decision))
    members = json.loads(body)
    assert members.pop("retry_after") == error.decision.retry_after
    assert members == problem_members(error)
    length = (b"content-length", b"%d" % len(body))
    assert sorted(fields) == sorted([*problem_fields(error), length])


# The header -----------------------------------------------------------------------------------------


def test_the_header_says_how_things_stand_and_is_new_only_when_it_has_to_be(setup):
    pressure = Pressure(setup.overload, setup.clock)
    assert pressure.field.startswith(b"v=1;p=0;adm=1;ttl=1000;seq=")
    first = pressure.field
    setup.clock.advance(0.1)
    pressure.tell(0.001)
    assert pressure.field is first
    setup.clock.advance(0.1)
    pressure.tell(1.25)
    assert pressure.field.startswith(b"v=1;p=1.25;adm=1;")
    second = pressure.field
    setup.clock.advance(0.5)
    pressure.tell(1.25)
    assert pressure.field != second
    assert int(pressure.field.rsplit(b"=", 1)[1]) > int(second.rsplit(b"=", 1)[1])


def test_the_header_says_which_share_was_admitted(setup):
    pressure = Pressure(setup.overload, setup.clock)
    setup.press(2.0, 50)
    for number in range(10):
        setup.chance = number / 10
        priority = "low" if number < 4 else "critical"
        with contextlib.suppress(Overloaded):
            setup.service.check("k", 1, {}, 0, priority)
    setup.clock.advance(0.5)
    pressure.tell(2.0)
    assert pressure.admitted == pytest.approx(0.6)
    assert b";adm=.6;" in pressure.field
    for number in range(20):  # a pressure that moves makes the header new all the time
        setup.clock.advance(0.1)
        pressure.tell(0.5 - number / 50)
    assert b";adm=1;" in pressure.field


@pytest.mark.parametrize("jump", [-(10**17), 10**17])
def test_a_clock_that_jumps_leaves_the_header_and_the_shedder_working(setup, jump):
    pressure = Pressure(setup.overload, setup.clock)
    setup.press(2.0, 50)
    setup.clock.advance_ns(jump)
    for _ in range(40):
        setup.clock.advance(0.1)
        pressure.tell(0.0)
    assert not setup.overload.sheds
    assert pressure.field.startswith(b"v=1;p=0;")


@pytest.mark.parametrize(("pressure", "raw"), [(1.9, 0.0), (0.9, 2.0)])
def test_a_stall_that_is_over_or_was_short_sheds_nothing(setup, pressure, raw):
    heard = Pressure(setup.overload, setup.clock)
    for _ in range(10):
        setup.clock.advance(0.1)
        heard.observe(LoadReport(0, pressure, raw, "loop_lag", False, {}))
    assert not setup.overload.sheds
    assert heard.value == pressure


def test_a_loop_that_stood_still_for_long_counts_as_one_late_sample(setup):
    setup.press(0.0, 1)
    setup.clock.advance(5.0)
    setup.overload.look(1.95, 2.0)
    assert setup.overload.parts() == pytest.approx([0.01, 0.05, 0.1, 0.1])


def test_the_log_tells_when_shedding_begins_and_ends(setup, caplog):
    caplog.set_level("INFO", "headgate.server")
    pressure = Pressure(setup.overload, setup.clock)
    for value in (1.5, 1.5, 0.0, 0.0):
        setup.clock.advance(0.1)
        pressure.tell(value)
    assert [record.message for record in caplog.records] == [
        "shedding begins at pressure 1.50",
        "shedding is over; 0 requests were shed so far",
    ]


def test_followers_hear_of_it(setup):
    pressure = Pressure(setup.overload, setup.clock)
    heard: list[float] = []
    pressure.followers.append(heard.append)
    pressure.tell(0.3)
    assert (heard, pressure.value) == ([0.3], 0.3)


# In a cluster ---------------------------------------------------------------------------------------


class Cluster:
    """This node among others that say what they are told to say."""

    def __init__(self, setup: Setup, others: dict[str, float]) -> None:
        self.pressure = Pressure(setup.overload, setup.clock)
        self.board = Pressures(setup.clock)
        self.view = GlobalPressure(
            "here", self.pressure.local, shared=self.board, clock=setup.clock
        )
        self.pressure.join(self.view)
        for name, value in others.items():
            self.view.hear(PressureNote(name, value, 1.0, 1))


def test_one_sick_node_makes_nobody_else_shed(setup):
    cluster = Cluster(setup, {"b": 2.0, "c": 0.1, "d": 0.2})
    for _ in range(10):
        setup.clock.advance(0.1)
        cluster.pressure.tell(0.3)
    assert not setup.overload.sheds
    assert cluster.pressure.value == 0.3
    assert cluster.pressure.cluster_members() == {
        "node": "here",
        "pressure": 0.3,
        "nodes": {"b": 2.0, "c": 0.1, "d": 0.2, "here": 0.3},
        "sick": ["b"],
        "connected": True,
    }


def test_a_cluster_in_trouble_sheds_as_one_and_each_node_speaks_for_itself(setup):
    cluster = Cluster(setup, {"b": 2.0, "c": 1.8, "d": 1.9})
    heard: list[float] = []
    cluster.pressure.followers.append(heard.append)
    for _ in range(3):
        setup.clock.advance(0.1)
        cluster.pressure.tell(0.3)
    assert setup.overload.sheds
    assert cluster.pressure.value == heard[-1] == pytest.approx(6.0 / 4)
    assert cluster.pressure.own == 0.3
    assert cluster.pressure.field.startswith(b"v=1;p=.3;")
    assert cluster.pressure.cluster_members()["sick"] == []


def test_what_was_told_fades_to_the_nodes_own(setup):
    cluster = Cluster(setup, {"b": 2.0, "c": 1.8, "d": 1.9})
    setup.clock.advance(20.0)
    cluster.pressure.tell(0.3)
    assert cluster.pressure.value == 0.3


def test_a_stall_that_is_over_is_not_told_to_the_others(setup):
    cluster = Cluster(setup, {})
    cluster.pressure.observe(LoadReport(0, 1.9, 0.0, "loop_lag", False, {}))
    assert cluster.pressure.value == 1.9
    assert cluster.view.note() == PressureNote("here", 0.0, 1.0, setup.clock.wall_ns() // 10**6)


def test_a_node_on_its_own_has_no_cluster(setup):
    assert Pressure(setup.overload, setup.clock).cluster_members() is None
