"""The example programs of the library do what they say."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import TYPE_CHECKING

from headgate.gates.async_limiter import AsyncLimiter
from headgate.testing import ManualClock
from tests.unit.integrations.asgi_driver import ask

if TYPE_CHECKING:
    import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> dict:
    return runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="example")


def test_limit_a_function(capsys: pytest.CaptureFixture[str]):
    load("limit_a_function")["main"]()
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "to ada: three"
    assert lines[3].startswith("refused; again in 0.3")
    assert lines[4].startswith("to bob")


async def test_wait_for_a_turn():
    limiter = AsyncLimiter("50/second", burst=5, clock=ManualClock())
    lines = await load("wait_for_a_turn")["work"](limiter)
    assert sum("went through" in line for line in lines) == 15
    assert lines[0] == "0 went through"
    assert "19 gave up at once" in lines[19]


def test_peers(capsys: pytest.CaptureFixture[str]):
    load("peers")["main"]()
    lines = capsys.readouterr().out.splitlines()
    assert "-32000" in lines[2]
    assert "-32002" in lines[3]
    assert "pong" in lines[5]
    assert lines[6] == "node-3 open 197"


async def test_fastapi_app():
    app = load("fastapi_app")["app"]
    keyed = {"x-api-key": "a"}
    answers = [await ask(app, "/search", headers=keyed) for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert answers[0]["ratelimit-policy"] == '"address";q=600;w=60, "3/minute";q=3;w=60'
    assert (await ask(app, "/search", headers={"x-api-key": "b"})).status == 200
    ada = {"x-account": "ada"}
    reports = [await ask(app, "/reports", headers=ada, method="POST") for _ in range(3)]
    assert [answer.status for answer in reports] == [200, 200, 429]
    paid = await ask(app, "/reports", headers=ada | {"x-plan": "paid"}, method="POST")
    assert json.loads(paid.body) == {"left": 99}
    live = await ask(app, "/live", kind="websocket")
    assert live.sent[0]["type"] == "websocket.accept"


async def test_asgi_app():
    app = load("asgi_app")["app"]
    keyed = {"x-api-key": "a"}
    statuses = [(await ask(app, "/export", headers=keyed)).status for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert (await ask(app)).status == 200
    assert "ratelimit" not in await ask(app, "/healthz")
