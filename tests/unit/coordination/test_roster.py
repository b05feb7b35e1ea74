from __future__ import annotations

import logging

import pytest

from headgate.coordination.backend import Card, Roll
from headgate.coordination.roster import Roster, card_of
from headgate.engine.agreement import Member
from headgate.testing import ManualClock

SECOND = 10**9
MINE = Card("mine", "run", "[]")


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def roster(clock):
    made = Roster(clock)
    made.card = MINE
    return made


def test_a_leader_stops_a_margin_before_its_lease_ends(roster, clock):
    roster.take(Roll([MINE], "mine", 2 * SECOND, leads=True), clock.now_ns())
    clock.advance(1.899)
    assert roster.leader() == "mine"
    clock.advance(0.001)
    assert roster.leader() == ""


def test_its_lease_counts_from_when_it_asked(roster, clock):
    asked_ns = clock.now_ns()
    clock.advance(1.9)
    roster.take(Roll([MINE], "mine", 2 * SECOND, leads=True), asked_ns)
    assert roster.leader() == ""


def test_the_name_of_a_predecessor_leads_and_this_process_does_not(roster):
    roster.take(Roll([Card("mine", "other run", "[]")], "mine"), 0)
    assert roster.leader() == ""
    assert roster.other() == Member("mine")


def test_who_does_not_take_part_sees_who_leads(clock):
    roster = Roster(clock)
    roster.take(Roll([MINE], "mine"), 0)
    clock.advance(3600)
    assert roster.leader() == "mine"
    assert roster.other() is None


def test_a_change_of_the_leader_is_logged_once(roster, caplog):
    caplog.set_level(logging.INFO)
    for leader in ("a", "a", "", "b"):
        roster.take(Roll([], leader), 0)
    assert [record.message for record in caplog.records] == [
        "the leader is a; it was nobody",
        "the leader is nobody; it was a",
        "the leader is b; it was nobody",
    ]


def test_members_are_in_the_order_of_their_names(roster):
    member = Member("b", "http://b", "1.0", 17, 2)
    roster.take(Roll([card_of(member, "run"), Card("a", "run", "rubbish")], ""), 0)
    assert roster.members() == [Member("a"), member]


@pytest.mark.parametrize("text", ["", "[]", "{}", "[1,2,3]", '["a","b","c","d"]', "7"])
def test_what_another_version_wrote_is_a_member_all_the_same(roster, text):
    roster.take(Roll([Card("a", "run", text)], ""), 0)
    assert [member.node for member in roster.members()] == ["a"]
