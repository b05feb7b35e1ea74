"""What the load and the server of the live rig say to each other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headgate.lab.live.frames import ANSWER, ASK, Ask, Status, frames, pack_request, request_of
from headgate.lab.workload import Request


@given(
    st.integers(0, 2**31),
    st.integers(0, 4 * 10**12),
    st.integers(0, 4 * 10**12),
    st.integers(0, 3),
    st.integers(0, 65_535),
    st.text(max_size=16).filter(lambda text: len(text.encode()) <= 16 and not text.endswith("\0")),
)
def test_a_request_arrives_as_it_was_sent(number, service_ns, budget_ns, tier, cost, flow):
    sent = Request(number, 500, 500 + budget_ns, service_ns, tier, flow, cost)
    (fields,) = frames(bytearray(pack_request(sent)), ASK)
    heard = request_of(fields, 10**15)
    assert fields[5] == Ask.WORK
    assert (heard.number, heard.tier, heard.cost, heard.flow) == (number, tier, cost, flow)
    assert heard.service_ns == service_ns // 1000 * 1000
    assert (heard.arrived, heard.deadline - heard.arrived) == (10**15, budget_ns // 1000 * 1000)


def test_a_flow_too_long_is_cut_even_amid_a_letter():
    (fields,) = frames(
        bytearray(pack_request(Request(1, 0, 0, 0, 0, "x" * 15 + "\N{SNOWMAN}"))), ASK
    )
    assert request_of(fields, 0).flow.startswith("x" * 15)


def test_a_deadline_that_is_past_leaves_no_time():
    (fields,) = frames(bytearray(pack_request(Request(1, 1000, 500, 0))), ASK)
    assert request_of(fields, 7).deadline == 7


@given(st.lists(st.integers(0, 2**32 - 1), max_size=20), st.lists(st.integers(1, 40), max_size=30))
def test_frames_come_out_whole_however_they_are_cut(numbers, cuts):
    data = b"".join(ANSWER.pack(number, Status.DONE, 0, 0) for number in numbers)
    buffer, heard = bytearray(), []
    for cut in [*cuts, len(data)]:
        buffer += data[:cut]
        data = data[cut:]
        heard += [fields[0] for fields in frames(buffer, ANSWER)]
    assert heard == numbers
    assert not buffer
