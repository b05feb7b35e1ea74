"""Whether what the settings name answers, for ``headgate doctor``: nothing is kept, and nothing spent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from headgate.clock import SystemClock
from headgate.engine.counters import PEEK, Counter, Question
from headgate.errors import StoreUnavailable
from headgate.policy.model import Policy
from headgate.wiring.agreement import open_agreement
from headgate.wiring.cluster import configured_counters

if TYPE_CHECKING:
    from headgate.settings import Settings

__all__ = ["probe_agreement", "probe_counters"]

_PATIENCE: Final = 3.0
_NAME: Final = "headgate.doctor"


def probe_counters(settings: Settings) -> float:
    """Ask the shared counters one question, with everything that takes: login, scripts, permissions.

    Returns:
        Seconds that an answer takes, once the connection is there.

    Raises:
        StoreUnavailable: they do not answer as they should.
        ConfigurationError: the address cannot be used, or the driver is missing.
    """
    return asyncio.run(_ask_counters(settings))


def probe_agreement(settings: Settings) -> float:
    """Read something of what the nodes agree on; see `probe_counters`."""
    clock = SystemClock()
    agreement = open_agreement(settings, clock)
    store = agreement.store
    assert store is not None  # noqa: S101 - the settings name an etcd or a Redis
    try:
        store.ping()
        began = clock.now_ns()
        store.ping()
        return (clock.now_ns() - began) / 1e9
    finally:
        asyncio.run(agreement.close())


async def _ask_counters(settings: Settings) -> float:
    clock = SystemClock()
    counters = configured_counters(settings)
    spec = Policy.from_dict({"name": _NAME, "limit": 1, "window": 1}).levels[0].spec
    question = Question(PEEK, [(Counter(_NAME, 0, spec, _NAME), "probe")], 1)
    try:
        async with asyncio.timeout(_PATIENCE):
            await counters.ask([question])
            began = clock.now_ns()
            (answer,) = await counters.ask([question])
            took = (clock.now_ns() - began) / 1e9
    except TimeoutError as error:
        message = f"there was no answer in {_PATIENCE:g} s"
        raise StoreUnavailable(message) from error
    finally:
        await counters.close()
    if answer is None or answer.failed:
        raise StoreUnavailable("it answers, but not to what is asked of shared counters")
    return took
