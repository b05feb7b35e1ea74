"""The Python examples of the pages about the library run, each page as one program."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.test_readme import python_blocks

DOCS = Path(__file__).parents[2] / "docs"
PAGES = [
    "how-to/limit-calls-in-flight.md",
    "how-to/adapt-rates.md",
    "tutorial/first-limit.md",
    "how-to/circuit-breaker.md",
    "how-to/limit-a-function.md",
    "how-to/wait-for-a-turn.md",
    "how-to/fastapi.md",
    "how-to/asgi.md",
    "how-to/client-addresses.md",
    "how-to/peers.md",
    "how-to/reservations.md",
    "how-to/hierarchies.md",
    "how-to/queue-for-a-seat.md",
    "how-to/laboratory.md",
    "how-to/switch-features-off.md",
    "how-to/load-and-pressure.md",
    "how-to/call-an-upstream.md",
    "how-to/loops.md",
    "how-to/shed-load.md",
    "how-to/daemons.md",
    "how-to/json-rpc.md",
    "how-to/redis.md",
]


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_run(page):
    path = DOCS / page
    namespace: dict[str, object] = {"__name__": "page"}
    blocks = python_blocks(path.read_text())
    assert blocks
    for line, block in blocks:
        exec(compile("\n" * line + block, str(path), "exec"), namespace)
