"""The gatekeeper: who is let in, from when on, and what happens without the store."""

from __future__ import annotations

from typing import Any

import pytest

from headgate.errors import ConfigurationError, Forbidden, StoreUnavailable, Unauthorized
from headgate.server.auth import Gatekeeper, refuse_foreign_page, token_text
from headgate.storage import open_store
from headgate.testing import ManualClock


class Stage:
    """A gatekeeper with a store that can fail."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.tokens = open_store("memory://", self.clock).tokens
        self.fails = False
        self.lookups = 0
        self.gate = Gatekeeper(self, self.clock)

    def __getattr__(self, name: str) -> Any:
        if self.fails:
            message = "gone"
            raise StoreUnavailable(message)
        self.lookups += name == "find"
        return getattr(self.tokens, name)

    def issue(self, *scopes: str) -> Any:
        return self.tokens.create("test", scopes)


@pytest.fixture
def stage() -> Stage:
    return Stage()


async def test_a_token_is_looked_up_once(stage: Stage) -> None:
    text = stage.issue("check").text
    assert not stage.gate.knows(text, "check")
    for _ in range(3):
        token = await stage.gate.admit(text, "check")
        assert token is not None
    assert stage.lookups == 1
    assert stage.gate.knows(text, "check")
    assert not stage.gate.knows(text, "admin")
    with pytest.raises(Forbidden):
        await stage.gate.admit(text, "read")


async def test_admin_may_do_all(stage: Stage) -> None:
    text = stage.issue("admin").text
    for scope in ("check", "read", "admin"):
        assert await stage.gate.admit(text, scope)


async def test_without_a_store_those_who_are_known_are_let_in(stage: Stage) -> None:
    known, unknown = stage.issue("check").text, stage.issue("check").text
    await stage.gate.admit(known, "check")
    stage.fails = True
    await stage.gate.refresh()
    assert await stage.gate.admit(known, "check")
    with pytest.raises(StoreUnavailable):
        await stage.gate.admit(unknown, "check")


async def test_listeners_hear_of_every_refresh(stage: Stage) -> None:
    heard: list[str] = []
    stage.gate.on_refresh(lambda: heard.append("x"))
    await stage.gate.refresh()
    assert heard == ["x"]


async def test_the_verified_are_bounded(stage: Stage) -> None:
    for _ in range(1_100):
        await stage.gate.admit(stage.issue("check").text, "check")
    assert len(stage.gate._verified) <= 1_024


def test_who_may_listen_where(stage: Stage) -> None:
    stage.gate.open(is_loopback=True)
    assert not stage.gate.required
    with pytest.raises(ConfigurationError, match="headgate token create"):
        stage.gate.open(is_loopback=False)
    issued = stage.issue("check")
    stage.gate.open(is_loopback=False)
    assert stage.gate.required
    stage.gate.open(is_loopback=True)
    assert stage.gate.required
    stage.tokens.revoke(issued.token.id)
    with pytest.raises(ConfigurationError):
        stage.gate.open(is_loopback=False)
    stage.gate.open(is_loopback=True)
    assert stage.gate.required


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ([], None),
        ([(b"authorization", b"Bearer hg_x")], "hg_x"),
        ([(b"authorization", b"bearer  hg_x ")], "hg_x"),
        ([(b"x-api-key", b" hg_x ")], "hg_x"),
        ([(b"x-api-key", b"hg_y"), (b"authorization", b"Bearer hg_x")], "hg_x"),
        ([(b"authorization", b"Bearer")], ""),
    ],
)
def test_where_the_token_stands(headers: list[tuple[bytes, bytes]], text: str | None) -> None:
    assert token_text(headers) == text


def test_other_credentials_are_refused() -> None:
    with pytest.raises(Unauthorized):
        token_text([(b"authorization", b"Basic eDp5")])


@pytest.mark.parametrize(
    "origin", [b"http://localhost", b"http://127.0.0.1:8080", b"http://[::1]:1"]
)
def test_pages_of_this_machine_may_come_in(origin: bytes) -> None:
    refuse_foreign_page([(b"origin", origin)])


@pytest.mark.parametrize("origin", [b"null", b"http://a.test", b"http://[", b"", b"\xff"])
def test_other_pages_may_not(origin: bytes) -> None:
    with pytest.raises(Forbidden):
        refuse_foreign_page([(b"origin", origin)])
