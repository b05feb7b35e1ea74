"""The parser of the RESP door: whole commands out of any pieces, and nothing believed."""

from __future__ import annotations

import contextlib
import itertools
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headgate.errors import MalformedRequest
from headgate.server.resp_parser import CommandReader

commands = st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=6), max_size=8)
# Bytes that look like the protocol find more than bytes that look like anything.
nearly_resp = st.lists(
    st.sampled_from(
        [b"*", b"$", b"\r\n", b"\r", b"\n", b"0", b"1", b"2", b"-1", b"PING", b" ", b":"]
    )
    | st.binary(max_size=4),
    max_size=40,
).map(b"".join)


def encoded(command):
    parts = [b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in command]
    return b"*%d\r\n" % len(command) + b"".join(parts)


def all_of(reader):
    found = []
    while (command := reader.next()) is not None:
        found.append(command)
    return found


def pieces(data, cuts):
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


@given(commands, st.lists(st.integers(0, 400), max_size=12))
def test_commands_come_out_whole_however_they_are_cut(wanted, cuts):
    reader = CommandReader()
    found = []
    for piece in pieces(b"".join(encoded(command) for command in wanted), cuts):
        reader.feed(piece)
        found += all_of(reader)
    assert found == wanted
    assert reader.is_idle


@given(nearly_resp, st.lists(st.integers(0, 100), max_size=5))
@example(b"*1\r\n$-1\r\n", [])
@example(b"*-1\r\n", [])
@example(b"*1\r\n*1\r\n*1\r\n", [])
@example(b"*1\r\n$1\r\nab\r\n", [])
def test_any_bytes_give_commands_or_a_refusal(data, cuts):
    reader = CommandReader(max_args=4, max_bulk=16, max_command=32)
    with contextlib.suppress(MalformedRequest):
        for piece in pieces(data, cuts):
            reader.feed(piece)
            for command in all_of(reader):
                assert 1 <= len(command) <= 4
                assert all(len(arg) <= 16 for arg in command)


@given(nearly_resp, st.lists(st.integers(0, 100), max_size=5))
def test_how_bytes_are_cut_changes_nothing(data, cuts):
    def outcome(parts):
        reader = CommandReader(max_args=4, max_bulk=16, max_command=32)
        found = []
        try:
            for part in parts:
                reader.feed(part)
                while (command := reader.next()) is not None:
                    found.append(command)
        except MalformedRequest:
            return found, "refused"
        return found, reader.is_idle

    assert outcome([data]) == outcome(pieces(data, cuts))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"PING\r\n", [b"PING"]),
        (b"PING\n", [b"PING"]),
        (b"echo  hello \r\n", [b"echo", b"hello"]),
        (b"\r\n\r\nPING\r\n", [b"PING"]),
        (b"*0\r\nPING\r\n", [b"PING"]),
    ],
)
def test_a_line_of_words_is_a_command(line, words):
    reader = CommandReader()
    reader.feed(line)
    assert reader.next() == words
    assert reader.next() is None


def test_inline_commands_and_arrays_mix():
    reader = CommandReader()
    reader.feed(b"PING\r\n" + encoded([b"ECHO", b"a\r\nb"]) + b"QUIT\r\n")
    assert all_of(reader) == [[b"PING"], [b"ECHO", b"a\r\nb"], [b"QUIT"]]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"*257\r\n", "at most 256 arguments"),
        (b"*4294967295\r\n", "at most 256 arguments"),
        (b"*9999999999999\r\n", "invalid length"),
        (b"*-1\r\n", "invalid length"),
        (b"*\r\n", "invalid length"),
        (b"*1x\r\n", "invalid length"),
        (b"*1\rx", "invalid length"),
        (b"*1\r\n$10485760\r\n", "at most 16384 bytes"),
        (b"*1\r\n$-1\r\n", "invalid length"),
        (b"*1\r\n:1\r\n", r"expected '\$', got ':'"),
        (b"*1\r\n*1\r\n", r"expected '\$', got '\*'"),
        (b"*1\r\n$1\r\nabc", "must end with CR LF"),
        (b"*5\r\n" + b"$16384\r\n" + b"x" * 16384 + b"\r\n", None),
        (
            b"*5\r\n" + (b"$16384\r\n" + b"x" * 16384 + b"\r\n") * 4 + b"$1\r\n",
            "at most 65536 bytes",
        ),
        (b"x" * 16385, "at most 16384 bytes"),
        (b"a " * 257 + b"\r\n", "at most 256 arguments"),
        (b"\x16\x03\x01", "a letter"),
        (b"$4\r\nPING\r\n", "a letter"),
        (b"\xff\xfe\r\n", "a letter"),
    ],
)
def test_limits_hold_before_anything_is_set_aside(data, reason):
    reader = CommandReader()
    reader.feed(data)
    if reason is None:
        assert reader.next() is None
        return
    with pytest.raises(MalformedRequest, match=f"^Protocol error: .*{reason}"):
        reader.next()


def test_a_huge_announcement_costs_nothing():
    tracemalloc.start()
    try:
        for announced in (b"*4294967295\r\n", b"*1\r\n$4294967295\r\n"):
            reader = CommandReader()
            reader.feed(announced)
            with pytest.raises(MalformedRequest):
                reader.next()
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_half_a_command_is_not_idle():
    reader = CommandReader()
    assert reader.is_idle
    for byte in encoded([b"ECHO", b"hello"])[:-1]:
        reader.feed(bytes([byte]))
        assert reader.next() is None
        assert not reader.is_idle
    reader.feed(b"\n")
    assert reader.next() == [b"ECHO", b"hello"]
    assert reader.is_idle
