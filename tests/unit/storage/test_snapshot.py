from __future__ import annotations

import logging
import os
import stat
from hashlib import sha256

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.errors import StoreUnavailable
from headgate.storage import load_snapshot, save_snapshot, snapshot

CONTENT = {"at": 2**62, "states": {"api": {"user:1": [1, -2, 3.5], "é\x00": None}}}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "counters.snapshot"


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.INFO, "headgate.storage")
    return lambda: [each.message for each in caplog.records if each.levelno >= logging.WARNING]


def file_of(payload, **fields):
    """A snapshot file around any payload, with a header that fits it unless told."""
    parts = {
        "magic": b"HGSNAP",
        "format": (1).to_bytes(2, "big"),
        "length": len(payload).to_bytes(8, "big"),
        "sum": sha256(payload).digest(),
        **fields,
    }
    return b"".join(parts.values()) + payload


json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def test_what_is_saved_is_loaded(path, warnings):
    size = save_snapshot(path, CONTENT)
    assert size == path.stat().st_size
    assert load_snapshot(path) == CONTENT
    assert warnings() == []


@settings(max_examples=20)  # each waits for the disk
@given(content=st.dictionaries(st.text(), json_like, max_size=4))
def test_whatever_is_saved_is_loaded(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.snapshot"
    save_snapshot(path, content)
    assert load_snapshot(path) == content


def test_a_file_that_is_not_there_is_no_matter_for_a_warning(path, warnings):
    assert load_snapshot(path) is None
    assert warnings() == []


def test_it_is_its_owners_alone_and_nothing_else_is_left(path):
    save_snapshot(path, CONTENT)
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_write_replaces_the_old_file_even_after_a_crash_half_way(path):
    save_snapshot(path, {"old": 1})
    path.with_name(f"{path.name}.{os.getpid()}.tmp").write_bytes(b"half of someth")
    save_snapshot(path, CONTENT)
    assert load_snapshot(path) == CONTENT


@pytest.mark.parametrize("value", [object(), 2**64, {1: {2: object()}}])
def test_what_cannot_be_written_leaves_the_old_file(path, value):
    save_snapshot(path, CONTENT)
    with pytest.raises(StoreUnavailable, match="could not be written"):
        save_snapshot(path, {"value": value})
    assert load_snapshot(path) == CONTENT


def test_a_disk_that_fails_leaves_the_old_file_and_no_other(path, monkeypatch):
    save_snapshot(path, CONTENT)

    def fail(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(snapshot.os, "fsync", fail)
    with pytest.raises(StoreUnavailable, match="No space left on device; check its directory"):
        save_snapshot(path, {"new": 1})
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert load_snapshot(path) == CONTENT


def test_a_missing_directory_is_unavailable(tmp_path):
    with pytest.raises(StoreUnavailable, match="check its directory"):
        save_snapshot(tmp_path / "none" / "counters", CONTENT)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "cut off"),
        (b"HGSNAP", "cut off"),
        (b"#!/bin/sh\n" * 100, "not a snapshot"),
        (file_of(b"\x80", format=(2).to_bytes(2, "big")), "has format 2 and this Headgate reads 1"),
        (file_of(b"\x80", format=b"\0\0"), "has format 0"),
        (file_of(b"\x80", length=b"\xff" * 8), "cut off, or something was added"),
        (file_of(b"\x80") + b"x", "something was added"),
        (file_of(b"\x80", sum=b"\0" * 32), "checksum"),
        (file_of(b"\x90"), "not what was expected"),
        (file_of(b"\x81\x01\x01"), "not what was expected"),
        (file_of(b"\xc1"), "not what was expected"),
        (file_of(b"\x81\xa1a" + b"\x91" * 1_000_000 + b"\xc0"), "not what was expected"),
        (file_of(b"\xdf\xff\xff\xff\xff"), "not what was expected"),
        (file_of(b"\x81\xa1a\xdd\xff\xff\xff\xff"), "not what was expected"),
        (file_of(b"\x81\xa1a\xa2\xff\xff"), "not what was expected"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_cannot_be_used_is_told_and_left_alone(path, warnings, raw, reason):
    path.write_bytes(raw)
    assert load_snapshot(path) is None
    [warning] = warnings()
    assert reason in warning
    assert warning.endswith("the counters start afresh")
    assert path.read_bytes() == raw


def test_no_flipped_bit_and_no_cut_goes_unnoticed(path):
    save_snapshot(path, CONTENT)
    whole = path.read_bytes()
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 0x10
        path.write_bytes(flipped)
        assert load_snapshot(path) is None, place
        path.write_bytes(whole[:place])
        assert load_snapshot(path) is None, place


@given(payload=st.binary(max_size=64))
def test_a_hostile_payload_never_raises(tmp_path_factory, payload):
    path = tmp_path_factory.getbasetemp() / "hostile.snapshot"
    path.write_bytes(file_of(payload))
    loaded = load_snapshot(path)
    assert loaded is None or loaded == msgspec.msgpack.decode(payload)


def test_a_file_above_the_bound_is_not_read(path, warnings):
    save_snapshot(path, CONTENT)
    assert load_snapshot(path, max_bytes=50) is None
    assert "at most 50 are read" in warnings()[0]


def test_what_is_no_file_is_not_read(path, warnings):
    path.mkdir()
    assert load_snapshot(path) is None
    path.rmdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(path)
        assert load_snapshot(path) is None
    assert "not a regular file" in warnings()[-1]


@pytest.mark.slow
def test_a_million_keys_make_the_trip(path):
    content = {"states": {f"user:{number}": number << 20 for number in range(1_000_000)}}
    assert save_snapshot(path, content) < 25_000_000
    assert load_snapshot(path) == content
