"""Records, members and a leader in a Redis or Valkey.

All keys begin with ``headgate:{<cluster>:agreed}:`` and so are in one slot of a Redis Cluster. What changed
is told by pub/sub, and counted: the counters are read twice a second, so that a word that was lost, or that
a Cluster's client cannot listen to, is only late. Time is the store's own.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, final

from headgate.coordination.backend import QUIET_FOLDERS, Card, News, Roll
from headgate.coordination.redis_connections import (
    driver,
    heal_async,
    open_async_client,
    store_errors,
)
from headgate.coordination.redis_scripts import Script
from headgate.engine.records import Record
from headgate.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence

    from headgate.coordination.redis_connections import RedisAddress
    from headgate.engine.records import Key

__all__ = ["RedisBackend"]

_NS_PER_US: Final = 1_000
_LOOK: Final = 0.5
"""Seconds after which the counters are read, word or no word."""
_LOOK_UNTOLD: Final = 0.25
"""The same where no word can come."""


@final
class RedisBackend:
    """A `Backend` on a Redis.

    Args:
        address: of it.
        cluster: nodes of the same name agree together.
        deadline: seconds that an answer may take.
    """

    kind: Final = "redis"

    def __init__(self, address: RedisAddress, cluster: str, deadline: float = 2.0) -> None:
        redis = driver("agreement by a Redis")
        self._address = address
        self._deadline = deadline
        self._prefix = f"headgate:{{{cluster}:agreed}}:"
        self._state = f"{self._prefix}state"
        self._channel = f"{self._prefix}changes"
        self._records_script = Script(redis, "records.lua")
        self._roll_script = Script(redis, "roll.lua")
        self._opened: Any = None
        self.where = str(address)

    async def get(self, key: Key) -> Record | None:
        folder, name = key
        found = await self._ask("HGET", self._folder(folder), _field(name))
        return None if found is None else _record(_field(name), found)

    async def list(self, folder: str) -> Sequence[Record]:
        found = await self._ask("HGETALL", self._folder(folder))
        pairs = (
            found.items() if isinstance(found, dict) else zip(found[::2], found[1::2], strict=True)
        )
        return [_record(name, text) for name, text in pairs]

    async def change(
        self, expected: Mapping[Key, int], puts: Mapping[Key, str], deletes: Collection[Key]
    ) -> bool:
        wanted = {
            "prefix": self._prefix,
            "channel": self._channel,
            "expected": [
                [folder, _field(name), str(at)] for (folder, name), at in expected.items()
            ],
            "puts": [[folder, _field(name), text] for (folder, name), text in puts.items()],
            "deletes": [[folder, _field(name)] for folder, name in deletes],
            "loud": any(not folder.startswith(QUIET_FOLDERS) for folder, _ in puts),
        }
        return bool(await self._run(self._records_script, wanted))

    async def follow(self) -> AsyncGenerator[News]:
        seen: Sequence[object] | None = None
        async with self._listening() as channel:
            while True:
                # The counters before the gap is told of: what changes while all is read is a change.
                now = await self._ask("HMGET", self._state, "records", "roll")
                if seen is None:
                    yield News(records=True, roll=True, gap=True)
                elif now != seen:
                    yield News(records=now[0] != seen[0], roll=now[1] != seen[1])
                seen = now
                await self._word(channel)

    async def beat(self, card: Card | None, ttl_ns: int) -> Roll:
        found = await self._turn("look" if card is None else "beat", card, ttl_ns)
        is_member, leads, leader, *rest = found
        members = [
            Card(_text(node), _text(run), _text(text))
            for node, run, text in zip(rest[::3], rest[1::3], rest[2::3], strict=True)
        ]
        return Roll(members, _text(leader), ttl_ns if is_member else 0, bool(leads))

    async def leave(self, card: Card) -> None:
        await self._turn("leave", card, 0)

    async def close(self) -> None:
        if self._opened is not None:
            with store_errors(f"the Redis at {self.where}"):
                await self._opened.aclose()

    async def _turn(self, what: str, card: Card | None, ttl_ns: int) -> Any:
        card = card or Card("", "", "")
        asked = {
            "prefix": self._prefix,
            "channel": self._channel,
            "what": what,
            "node": card.node,
            "run": card.run,
            "text": card.text,
            "ttl_us": ttl_ns // _NS_PER_US,
        }
        return await self._run(self._roll_script, asked)

    async def _run(self, script: Script, argument: Mapping[str, Any]) -> Any:
        from msgspec import msgpack  # noqa: PLC0415 - for who agrees by a Redis

        packed = msgpack.encode(argument)
        return await self._answer(script.run_async(self._client(), self._state, packed))

    async def _ask(self, *words: str | bytes) -> Any:
        return await self._answer(self._client().execute_command(*words))

    async def _answer(self, asking: Any) -> Any:
        try:
            with store_errors(f"the Redis at {self.where}"):
                async with asyncio.timeout(self._deadline):
                    return await asking
        except StoreUnavailable as error:
            await heal_async(self._client(), error)
            raise

    @asynccontextmanager
    async def _listening(self) -> AsyncIterator[Any]:
        """The channel of changes; None where the driver cannot listen: to a Cluster."""
        client = self._client()
        if not hasattr(client, "pubsub"):
            yield None
            return
        channel = client.pubsub(ignore_subscribe_messages=True)
        try:
            with store_errors(f"the Redis at {self.where}"):
                async with asyncio.timeout(self._deadline):
                    await client.initialize()  # that of a cluster cannot listen before
                    await channel.subscribe(self._channel)
            yield channel
        finally:
            await channel.aclose()

    async def _word(self, channel: Any) -> None:
        """Return when something was told, or it is time to look without."""
        with store_errors(f"the Redis at {self.where}"):
            if channel is None:
                await _pause(_LOOK_UNTOLD)
                return
            # What was subscribed to is confirmed by a message that is not shown, as None at once.
            loop = asyncio.get_running_loop()
            until = loop.time() + _LOOK
            while (left := until - loop.time()) > 0:
                if await channel.get_message(timeout=left) is not None:
                    return

    def _client(self) -> Any:
        if self._opened is None:
            self._opened = open_async_client(self._address, self._deadline)
        return self._opened

    def _folder(self, folder: str) -> str:
        return f"{self._prefix}records:{folder}"


async def _pause(seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()
    except TimeoutError:
        return


def _field(name: str) -> str:
    """A name as a field: any text, ASCII within."""
    return name.encode("unicode_escape").decode("ascii")


def _record(field: bytes | str, kept: bytes | str) -> Record:
    revision, _, text = _text(kept).partition(" ")
    if not revision.isdigit():
        raise StoreUnavailable("a record in the Redis is none of Headgate's; remove it")
    return Record(_text(field).encode("ascii").decode("unicode_escape"), text, int(revision))


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
