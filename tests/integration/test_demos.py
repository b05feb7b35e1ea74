"""The demonstrations run, shortened: that what they show is right is for the benches to judge."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest

from demos import asking, distributed, failure
from tests.support.servers import require_program

if TYPE_CHECKING:
    from pathlib import Path

PNG = b"\x89PNG"


@pytest.fixture
def _has_redis():
    require_program("valkey-server", "redis-server")


@pytest.mark.slow
@pytest.mark.needs_redis
@pytest.mark.usefixtures("_has_redis")
def test_one_limit_over_three_nodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "new" / "distributed.png"
    distributed.run(1.0, path)
    told = capsys.readouterr().out
    assert path.read_bytes().startswith(PNG)
    assert len(re.findall(r"^ +\d+ s .* asked 600/s", told, re.MULTILINE)) == 3
    assert "requests that failed: 0" in told


@pytest.mark.slow
@pytest.mark.needs_redis
@pytest.mark.usefixtures("_has_redis")
def test_the_store_dies_and_comes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "failure.png"
    failure.run(failure.Plan(1.0, 2.0, 3.0), path)
    told = capsys.readouterr().out
    assert path.read_bytes().startswith(PNG)
    assert "requests that failed: 0" in told
    # Nobody is let through by the one that is closed, once the nodes know.
    closed = re.search(r"strict, closed +admitted without the store +([\d.]+) of the limit", told)
    assert closed
    assert float(closed[1]) < 0.5


def test_answers_are_counted_by_stretches_of_time():
    answers = [asking.Answer(at, 0, "p", True, False, 0.0) for at in (0.1, 0.2, 0.6, 9.0)]
    assert asking.per_second(answers, 1.0, 0.5) == ([0.25, 0.75], [4.0, 2.0])
    assert len(asking.between(answers, 0.15, 1.0)) == 2


def test_a_node_that_is_not_there_is_a_failure():
    one = asking.Asking(0, 1, "p", lambda _: 1_000.0)  # nobody listens on port 1

    async def ask():
        told: list[float] = []
        await asking.ask_all([one], 0.05, told.append, every=0.05)
        return told

    assert asyncio.run(ask()) == [0.05]
    assert one.failures > 0
    assert one.answers == []


def test_recovery_ends_with_the_first_quiet_quarter_of_a_second():
    def answers(*moments: float) -> list[asking.Answer]:
        return [asking.Answer(at, 0, "p", True, True, 0.0) for at in moments]

    assert failure.recovery(answers(9.9), 10.0) == 0
    assert failure.recovery(answers(10.1, 10.3, 12.0), 10.0) == pytest.approx(0.3)
