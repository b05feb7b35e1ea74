"""Services on one Redis or Valkey: what they tell each other of their pressure, and how they do without."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING, Any

import pytest

from headgate.errors import ConfigurationError
from tests.support import servers
from tests.support.service import running_service
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.service import Service

pytestmark = pytest.mark.needs_redis

BACKPRESSURE = "/api/v1/backpressure"


def press(service: Service, pressure: float, steps: int = 1) -> None:
    async def tell() -> None:
        for _ in range(steps):
            service.clock.advance(0.1)
            service.running.context.pressure.tell(pressure)

    service.call(tell)


def in_force(service: Service) -> dict[str, Any]:
    document: dict[str, Any] = service.get(BACKPRESSURE).json
    return document["in_force"]


@contextlib.contextmanager
def services(directory: Path, url: str, names: str) -> Iterator[list[Service]]:
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                running_service(directory / name, redis_url=url, node=name, consistency="local")
            )
            for name in names
        ]


@pytest.mark.slow
def test_three_services_hear_each_other_and_go_on_without_the_store(tmp_path: Path) -> None:
    with servers.redis_server(tmp_path / "store") as store:
        url = f"redis://{servers.HOST}:{store.port}"
        with services(tmp_path, url, "abc") as (a, b, c):
            for service in (a, b, c):
                press(service, 0.2)
            eventually(lambda: in_force(a)["cluster"]["nodes"] == dict.fromkeys("abc", 0.2))

            press(c, 1.8, 3)  # one is sick: it is known, and its own affair
            eventually(lambda: in_force(a)["cluster"]["sick"] == ["c"])
            press(a, 0.2)
            assert in_force(a)["pressure"] == 0.2
            assert in_force(a)["shedding"]["low"] == 0
            assert in_force(c)["shedding"]["low"] > 0
            assert "p=.2;" in a.get("/health")["x-pressure"]

            cluster = a.get("/api/v1/cluster").json["pressure"]
            assert (cluster["node"], cluster["sick"], cluster["connected"]) == ("a", ["c"], True)

            press(b, 1.9, 3)  # two of three are: all shed, and each says how it is itself
            eventually(lambda: in_force(a)["cluster"]["pressure"] == pytest.approx(1.3))
            press(a, 0.2, 3)
            assert in_force(a)["pressure"] == pytest.approx(1.3)
            assert in_force(a)["own"] == 0.2
            assert in_force(a)["shedding"]["low"] > 0
            assert "p=.2;" in a.get("/health")["x-pressure"]

            store.process.send_signal(signal.SIGSTOP)
            try:
                eventually(lambda: not in_force(a)["cluster"]["connected"])
                assert a.post("/api/v1/check", {"key": "k", "priority": "critical"}).status == 200
                # What was told fades, by the machine's clock: after a second and a half by half each second.
                eventually(lambda: in_force(a)["cluster"]["pressure"] == 0.2)
            finally:
                store.process.send_signal(signal.SIGCONT)
            press(b, 0.2)
            press(c, 0.2)
            eventually(lambda: in_force(a)["cluster"]["nodes"] == dict.fromkeys("abc", 0.2))
            assert in_force(a)["cluster"]["connected"]


def test_a_service_that_does_not_watch_its_load_tells_nobody(
    tmp_path: Path, redis_server: servers.Server
) -> None:
    url = f"redis://{servers.HOST}:{redis_server.port}/0"
    with running_service(
        tmp_path, redis_url=url, node="a", backpressure=False, consistency="local"
    ) as service:
        assert "cluster" not in in_force(service)


def test_an_address_that_cannot_be_read_is_said_before_anybody_is_served(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigurationError, match="cannot be read"),
        running_service(tmp_path, redis_url="redis://127.0.0.1:port", consistency="local"),
    ):
        pass
