"""A password in the address of a service is not repeated in messages."""

from __future__ import annotations

import pytest

from headgate.client.rest import Client
from headgate.errors import HeadgateError


@pytest.mark.parametrize(
    "address",
    [
        "http://ann:hidden@127.0.0.1:1",
        "http://ann:hid@hidden@127.0.0.1:1/a@b",
        "redis://ann:hidden@127.0.0.1:1",
        "http://ann:hidden@127.0.0.1:none",
    ],
)
def test_a_password_in_the_address_is_not_told(address):
    with pytest.raises(HeadgateError) as caught, Client(address) as client:
        client.members()
    assert "hid" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)
