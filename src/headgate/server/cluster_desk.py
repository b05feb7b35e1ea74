"""A node among others: it joins, follows what they agree on, and takes its leave.

Whatever the others change (a policy, a setting, a token) is read again here and put in force, off the
path of requests. A node that cannot reach the others goes on with what it knows, and says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, final

from headgate.engine.agreement import Member
from headgate.errors import HeadgateError

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from headgate.server.context import Context
    from headgate.wiring.cluster import Cluster

__all__ = ["ClusterDesk"]

_log = logging.getLogger("headgate.server")
_TEND_SECONDS: Final = 0.25
_AGAIN_SECONDS: Final = 0.25
_LATEST_SECONDS: Final = 5.0
_LEAVE_SECONDS: Final = 2.0
_GREET_SECONDS: Final = 2.0


@final
class ClusterDesk:
    """Keeps one service in step with the other nodes.

    Args:
        cluster: what the node shares.
        context: the service.

    Attributes:
        is_configured: whether the configuration was read since the service started.
        changes: how often it was read because something had changed.
    """

    def __init__(self, cluster: Cluster, context: Context, *, is_configured: bool = True) -> None:
        self.cluster = cluster
        self.is_configured = is_configured
        self.changes = 0
        self._context = context
        self._trouble = ""
        self._trouble_since = 0.0
        self._leads = False
        self._tasks: list[asyncio.Task[None]] = []

    # The way of a node -----------------------------------------------------------------------------

    async def greet(self) -> None:
        """Make ready to ask the shared counters, before the first request comes; for so long at most.

        What would otherwise show only in answers, such as a wrong password, is said here.
        """
        try:
            async with asyncio.timeout(_GREET_SECONDS):
                await self.cluster.greet()
        except (HeadgateError, TimeoutError) as error:
            _log.warning(
                "the shared counters do not answer: %s; failure modes are in force until they do",
                str(error) or "no answer in time",
            )

    def start(self, address: str, workers: int = 1) -> None:
        """Follow the others, and be one of them, at this address, from now on."""
        wall_ms = self._context.service.engine.clock.wall_ns() // 1_000_000
        member = Member(self.cluster.node, address, self._context.version, wall_ms, workers)
        loop = asyncio.get_running_loop()
        works = [self._tend(), self._join(member)]
        if not self.cluster.is_alone:
            works.append(self._follow())
        self._tasks += [loop.create_task(work) for work in works]

    async def stop(self) -> None:
        """Give back what was drawn ahead, and be none of them any more. Nothing is asked after this."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._in_time(self.cluster.give_back(), "the leases could not be given back")
        await self._in_time(self.cluster.agreement.leave(), "the other nodes could not be told")

    async def announce(self) -> None:
        """Something changed in records that nodes or workers share without noticing."""
        if self.cluster.agreement.store is None and not self.cluster.is_alone:
            with contextlib.suppress(HeadgateError):
                await self.cluster.agreement.announce()

    async def read_again(self) -> bool:
        """Read the configuration, and bring this node to it; False when some of it could not be read."""
        context = self._context
        try:
            changed = await context.policies.reload()
        except HeadgateError as error:
            _log.warning("the policies could not be read again: %s", error)
            return False
        if changed:
            _log.info("the policies are those of the other nodes now: %s", ", ".join(changed))
        await context.gatekeeper.refresh()
        await context.backpressure.refresh()
        self.is_configured = True
        return True

    # What people want to know ------------------------------------------------------------------------

    @property
    def is_clustered(self) -> bool:
        """Whether there is anything that nodes share."""
        return self.cluster.agreement.kind != "single" or self.cluster.counters is not None

    @property
    def leads(self) -> bool:
        """Whether this node does what one node has to do for all."""
        return self.cluster.agreement.leader() == self.cluster.node

    @property
    def config_age(self) -> float:
        """Seconds since this node was cut off from what the others agree on; 0 while it is not."""
        if not self.cluster.agreement.trouble:
            return 0.0
        self._look_at_trouble()
        return asyncio.get_running_loop().time() - self._trouble_since

    def config_hash(self) -> str:
        """The same on all nodes that have the same configuration in force."""
        versions = sorted(self._context.policies.versions.items())
        text = f"{versions} {self._context.backpressure.version}"
        return sha256(text.encode()).hexdigest()[:12]

    def summary(self) -> dict[str, Any]:
        """What `/readyz` says of it."""
        agreement = self.cluster.agreement
        return {
            "node": self.cluster.node,
            "configuration": self.config_hash(),
            "agreement": agreement.kind,
            "trouble": agreement.trouble,
            "store": self.cluster.store_state(),
        }

    # Inside ------------------------------------------------------------------------------------------

    async def _join(self, member: Member) -> None:
        try:
            await self.cluster.agreement.join(member)
        except HeadgateError as error:
            _log.error("this node is no member of its cluster: %s", error)
        else:
            if self.is_clustered:
                _log.info("joined the cluster as %s", member.node)

    async def _follow(self) -> None:
        # What was read at the start may be older than the first sign of a change, so that one counts, too.
        while True:
            try:
                async for _ in self.cluster.agreement.changes():
                    self.changes += 1
                    await self._keep_reading()
                return  # the agreement is closed
            except Exception:  # noqa: BLE001 - a node that no longer follows would be wrong for ever
                _log.exception("a defect: following the other nodes failed; it is begun anew")
                await _pause(_LATEST_SECONDS)

    async def _keep_reading(self) -> None:
        """Read until all could be read, less and less often."""
        pause = _AGAIN_SECONDS
        while not await self.read_again():
            await _pause(pause)
            pause = min(2 * pause, _LATEST_SECONDS)

    async def _tend(self) -> None:
        """What has to be looked at now and then, by this node or, if it leads, for all."""
        while True:
            await _pause(_TEND_SECONDS)
            try:
                await self._look_after()
            except Exception:  # noqa: BLE001 - whatever it is, it is looked after again
                _log.exception("a defect: looking after the cluster failed; it is tried again")
                await _pause(_LATEST_SECONDS)

    async def _look_after(self) -> None:
        self._look_at_trouble()
        if self.leads != self._leads:
            self._leads = self.leads
            if self.is_clustered:
                _log.info("this node %s", "leads now" if self._leads else "leads no longer")
        if self._leads and self.cluster.counters is not None:
            with contextlib.suppress(HeadgateError):
                await self.cluster.counters.release_expired()

    def _look_at_trouble(self) -> None:
        trouble = self.cluster.agreement.trouble
        if bool(trouble) != bool(self._trouble):
            self._trouble_since = asyncio.get_running_loop().time()
        self._trouble = trouble

    async def _in_time(self, work: Awaitable[object], failure: str) -> None:
        try:
            await asyncio.wait_for(work, _LEAVE_SECONDS)
        except (HeadgateError, TimeoutError) as error:
            _log.warning("%s: %s", failure, str(error) or "the store did not answer in time")


async def _pause(seconds: float) -> None:
    """By the loop's time: the service's clock may be one that a test moves."""
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()
    timer = loop.call_later(seconds, _end, over)
    try:
        await over  # and not wait_for, which may lose a cancellation that comes as the time is over
    finally:
        timer.cancel()


def _end(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
