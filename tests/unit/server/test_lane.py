"""The lane takes whole checks in the plain form, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.coordination.memory_counters import MemoryCounters
from headgate.engine.engine import Engine
from headgate.engine.sharing import Sharing, SharingSettings
from headgate.policy.model import Policy
from headgate.server.auth import Gatekeeper
from headgate.server.heads import NOT_FOR_THE_LANE, HeadBook
from headgate.server.lane import CheckLane
from headgate.server.render import Renderer
from headgate.server.service import CheckService
from headgate.server.wire import decode_check
from headgate.storage import open_store
from headgate.testing import ManualClock

FIELDS = [(b"date", b"today"), (b"server", b"headgate")]
HEAD = b"POST /api/v1/check HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
CHECK = HEAD + b'Content-Length: 12\r\n\r\n{"key": "a"}'
OTHER = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


def gatekeeper() -> Gatekeeper:
    clock = ManualClock()
    gate = Gatekeeper(open_store("memory://", clock).tokens, clock)
    gate.open(is_loopback=True)
    return gate


def make_lane(limit: int = 1_000_000) -> CheckLane:
    engine = Engine(ManualClock())
    engine.set_policy(Policy.from_dict({"name": "p", "limit": limit, "window": "1m"}))
    heads = HeadBook(gatekeeper(), max_body=1_000)
    return CheckLane(CheckService(engine), Renderer(), decode_check, heads.known, heads.read)


def test_one_check() -> None:
    lane = make_lane(limit=1)
    answer = lane.answer(CHECK, FIELDS)
    assert answer.startswith(
        b"HTTP/1.1 200 OK\r\ndate: today\r\nserver: headgate\r\ncontent-type: "
    )
    assert (lane.taken, lane.wants_more) == (len(CHECK), False)
    assert lane.answer(CHECK, FIELDS).startswith(b"HTTP/1.1 429 Too Many Requests\r\ndate: today")
    assert (lane.admitted, lane.denied) == (1, 1)


class Post:
    """A courier that carries questions when the test says so."""

    def __init__(self) -> None:
        self.store = MemoryCounters(ManualClock())
        self.waiting: list[tuple[Any, Any]] = []

    def send(self, question: Any, done: Any) -> None:
        self.waiting.append((question, done))

    def later(self, delay_ns: int, callback: Any) -> None:
        pass  # no deadline comes

    def carry(self) -> None:
        waiting, self.waiting = self.waiting, []
        for question, done in waiting:
            done(self.store.ask_now([question])[0])


def test_a_check_on_its_way_ends_a_call_and_is_worded_like_any_other() -> None:
    engine, post = Engine(ManualClock()), Post()
    settings = SharingSettings("a", consistency="strict")
    engine.share(Sharing(post, settings, engine.clock, engine.table))
    engine.set_policy(Policy.from_dict({"name": "p", "limit": 2, "window": "1m"}), 1)
    heads = HeadBook(gatekeeper(), max_body=1_000)
    lane = CheckLane(CheckService(engine), Renderer(), decode_check, heads.known, heads.read)
    here = make_lane(limit=2)
    for _ in range(3):
        assert lane.answer(CHECK * 2 + OTHER, FIELDS) == b""
        assert (lane.taken, lane.wants_more) == (len(CHECK), False)
        assert lane.pending is not None
        words: list[bytes] = []
        lane.pending.then(lambda decision, words=words: words.append(lane.word(decision)))
        assert words == []
        post.carry()
        assert words == [here.answer(CHECK, FIELDS)]
    assert (lane.admitted, lane.denied) == (here.admitted, here.denied) == (2, 1)


def test_new_default_fields_are_used_at_once() -> None:
    lane = make_lane()
    lane.answer(CHECK, FIELDS)
    assert b"\r\ndate: tomorrow\r\n" in lane.answer(CHECK, [(b"date", b"tomorrow")])


@pytest.mark.parametrize(
    ("data", "checks", "wants_more"),
    [
        (b"", 0, False),
        (CHECK * 3, 3, False),
        (CHECK * 3 + OTHER, 3, False),
        (OTHER + CHECK, 0, False),
        (CHECK + CHECK[:-1], 1, True),
        (CHECK[: CHECK.index(b"\r\n\r\n") + 4], 0, True),
        (CHECK[:40], 0, False),
        (CHECK[:-12] + b"not a check!", 0, False),
        (CHECK + CHECK[:-12] + b"not a check!" + CHECK, 1, False),
        (CHECK.replace(b"12", b"1001"), 0, False),
    ],
)
def test_it_takes_the_checks_that_the_bytes_begin_with(
    data: bytes, checks: int, wants_more: bool
) -> None:
    lane = make_lane()
    answers = lane.answer(data, FIELDS)
    assert answers.count(b"HTTP/1.1 200 OK") == checks
    assert lane.taken == checks * len(CHECK)
    assert lane.wants_more == wants_more


@given(
    st.lists(st.sampled_from([CHECK, OTHER, b"\r\n", b"rubbish", CHECK[:50], HEAD]) | st.binary())
)
def test_it_never_takes_more_than_it_answers(pieces: list[bytes]) -> None:
    lane = make_lane()
    data = b"".join(pieces)
    answers = lane.answer(data, FIELDS)
    count = answers.count(b"HTTP/1.1 200 OK\r\n")
    assert data[: lane.taken] == CHECK * count
    if lane.wants_more:
        assert data[lane.taken :].startswith(HEAD)


PLAIN = {b"Host": b"x", b"Content-Type": b"application/json", b"Content-Length": b"2"}


def head_of(fields: dict[bytes, bytes], line: bytes = b"POST /api/v1/check HTTP/1.1") -> bytes:
    lines = [line, *(name + b": " + value for name, value in fields.items())]
    return b"\r\n".join(lines) + b"\r\n\r\n"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {b"Connection": b"keep-alive"},
        {b"Connection": b"Keep-Alive"},
        {b"Accept": b"*/*", b"User-Agent": b"any", b"X-Request-Id": b"7"},
        {b"Content-Type": b"application/json; charset=UTF-8"},
        {b"Content-Length": b"1000"},
        {b"Content-Length": b"0002"},
    ],
)
def test_plain_heads_are_for_the_lane(fields: dict[bytes, bytes]) -> None:
    book = HeadBook(gatekeeper(), max_body=1_000)
    head = head_of({**PLAIN, **fields})
    length = book.read(head)
    assert length == int(fields.get(b"Content-Length", b"2"))
    assert book.known == {head: length}


@pytest.mark.parametrize(
    "fields",
    [
        {b"Connection": b"close"},
        {b"Connection": b"upgrade", b"Upgrade": b"websocket"},
        {b"Transfer-Encoding": b"chunked"},
        {b"Expect": b"100-continue"},
        {b"Origin": b"http://localhost"},
        {b"Content-Encoding": b"gzip"},
        {b"Content-Type": b"text/plain"},
        {b"Content-Type": b""},
        {b"Content-Length": b"1001"},
        {b"Content-Length": b"0"},
        {b"Content-Length": b"-2"},
        {b"Content-Length": b"+2"},
        {b"Content-Length": b"2, 2"},
        {b"Content-Length": b"9" * 30},
        {b"Authorization": b"Basic x"},
        {b"X": b"v" * 3_000},
        {b"bad name": b"v"},
        {b"X": b"a\x00b"},
        {b"X": b"a\nb"},
    ],
)
def test_other_heads_are_not(fields: dict[bytes, bytes]) -> None:
    book = HeadBook(gatekeeper(), max_body=1_000)
    assert book.read(head_of({**PLAIN, **fields})) == NOT_FOR_THE_LANE
    assert book.known == {}


def test_what_only_looks_like_one_head_is_not() -> None:
    book = HeadBook(gatekeeper(), max_body=1_000)
    body_in_it = head_of({b"Content-Length": b"1", b"Content-Type": b"application/json"})
    for head in (
        body_in_it[:-2] + b"x\r\n\r\n",
        body_in_it + b"\r\n",
        head_of({**PLAIN, b"content-length ": b"2"}),
        head_of(PLAIN) + head_of(PLAIN),
    ):
        assert book.read(head) == NOT_FOR_THE_LANE


def test_the_book_is_bounded_and_forgets_when_tokens_may_have_changed() -> None:
    gate = gatekeeper()
    book = HeadBook(gate, max_body=1_000)
    for number in range(5_000):
        book.read(head_of({**PLAIN, b"X": b"%d" % number}))
        assert len(book.known) <= 1_024
    assert book.known
    gate.required = True
    assert book.read(head_of(PLAIN)) == NOT_FOR_THE_LANE
