"""Bodies are decoded strictly, and whatever comes, the error is one of ours."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.errors import BatchTooLarge, HeadgateError, InvalidInput, MalformedRequest
from headgate.server.backpressure import decode_backpressure
from headgate.server.wire import (
    BatchRequest,
    CheckRequest,
    CommitRequest,
    ReserveRequest,
    decode,
    decode_batch,
    decode_document,
)

if TYPE_CHECKING:
    from collections.abc import Callable

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
LIKE_CHECKS = st.fixed_dictionaries(
    {}, optional={"key": JSON, "tokens": JSON, "metadata": JSON, "ttl": JSON, "checks": JSON}
)
READERS = [
    lambda body: decode(CheckRequest, body),
    lambda body: decode(ReserveRequest, body),
    lambda body: decode(CommitRequest, body),
    lambda body: decode(BatchRequest, body),
    decode_batch,
    decode_document,
    decode_backpressure,
]


def error_of(read: Callable[[bytes], object], body: bytes) -> HeadgateError | None:
    try:
        read(body)
    except HeadgateError as error:
        return error
    return None


@pytest.mark.parametrize("read", READERS)
@given(st.binary() | st.one_of(JSON, LIKE_CHECKS).map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_read_or_refused(read: Callable[[bytes], object], body: bytes) -> None:
    error = error_of(read, body)
    assert error is None or (400 <= error.status < 500 and error.message)


def test_defaults() -> None:
    assert decode(CheckRequest, b"{}") == CheckRequest(key=None, tokens=1, metadata={})
    assert decode(ReserveRequest, b"{}").ttl == 60.0


def test_two_requests_do_not_share_their_metadata() -> None:
    one, other = decode(CheckRequest, b"{}"), decode(CheckRequest, b"{}")
    one.metadata["a"] = "b"
    assert other.metadata == {}
    assert CheckRequest().metadata == {}


@pytest.mark.parametrize("depth", [10_000, 1_000_000])
def test_deep_bodies_are_refused(depth: int) -> None:
    for opening in (b"[", b'{"a":'):
        with pytest.raises(InvalidInput):
            decode_document(b'{"a":' + opening * depth)
        with pytest.raises(InvalidInput):
            decode(CheckRequest, b'{"metadata":{"a":' + opening * depth)


def test_an_error_in_a_batch_has_its_place() -> None:
    with pytest.raises(InvalidInput) as caught:
        decode_batch(b'{"checks": [{}, {}, {"tokens": "1"}]}')
    assert caught.value.context == {"field": "checks.2.tokens", "index": 2}


def test_a_batch_has_a_largest_size() -> None:
    assert len(decode_batch(b'{"checks": [%b]}' % b",".join([b"{}"] * 1000))) == 1000
    with pytest.raises(BatchTooLarge):
        decode_batch(b'{"checks": [%b]}' % b",".join([b"{}"] * 1001))


def test_malformed_and_invalid_are_two_things() -> None:
    with pytest.raises(MalformedRequest):
        decode(CheckRequest, b"{")
    with pytest.raises(InvalidInput) as caught:
        decode(CheckRequest, b"5")
    assert not isinstance(caught.value, MalformedRequest)
