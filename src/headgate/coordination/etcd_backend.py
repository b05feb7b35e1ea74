"""Records, members and a leader in an etcd.

All keys are below ``/headgate/<cluster>/``::

    records/<folder>/<name>    a record; the name as in an address (``%2F``)
    members/<node>             a member, bound to its lease
    leader                     who leads, bound to the lease of that member

A lease is etcd's own: when a process is gone, etcd removes what was bound to its lease, by etcd's clock.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Final, final
from urllib.parse import quote, unquote

from headgate.clock import NS_PER_SECOND
from headgate.coordination.backend import QUIET_FOLDERS, Card, News, Roll
from headgate.coordination.etcd_client import decode, encode, number, prefix_end
from headgate.engine.records import Record
from headgate.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from headgate.coordination.etcd_client import EtcdClient
    from headgate.engine.records import Key

__all__ = ["EtcdBackend"]

_log = logging.getLogger("headgate.coordination")

_NOT_FOUND: Final = 5  # gRPC's
_OPERATIONS: Final = 100
"""Operations in one part of a transaction; etcd takes 128 (``--max-txn-ops``), and as many parts."""
_IDLE_SECONDS: Final = 3.0
"""A watch without news is opened anew, so that one whose endpoint hangs is not listened to for ever."""


@final
class EtcdBackend:
    """A `Backend` on an etcd.

    Args:
        client: speaks with it; closed with this.
        cluster: nodes of the same name agree together.
    """

    kind: Final = "etcd"

    def __init__(self, client: EtcdClient, cluster: str) -> None:
        self._client = client
        self._root = f"/headgate/{cluster}/"
        self._leader = f"{self._root}leader"
        self._members = f"{self._root}members/"
        self._lease = 0
        self._seen = 0  # the revision to hear of next; 0: whatever comes
        self.where = client.where

    async def get(self, key: Key) -> Record | None:
        found = await self._client.call("kv/range", {"key": encode(self._key(key))})
        return next((_record(each) for each in found.get("kvs", ())), None)

    async def list(self, folder: str) -> Sequence[Record]:
        found = await self._client.call("kv/range", _all_below(self._folder(folder)))
        return [_record(each) for each in found.get("kvs", ())]

    async def change(
        self, expected: Mapping[Key, int], puts: Mapping[Key, str], deletes: Collection[Key]
    ) -> bool:
        writes: list[dict[str, Any]] = [
            {"request_put": {"key": encode(self._key(key)), "value": encode(text)}}
            for key, text in puts.items()
        ]
        writes += [{"request_delete_range": {"key": encode(self._key(key))}} for key in deletes]
        first, text = next(iter(puts.items()), (None, ""))
        found = await self._client.call(
            "kv/txn",
            {
                "compare": [_at(self._key(key), revision) for key, revision in expected.items()],
                "success": _in_parts(writes),
                "failure": [] if first is None else [_range(self._key(first))],
            },
        )
        return bool(found.get("succeeded")) or _was_made(found, text)

    async def follow(self) -> AsyncGenerator[News]:
        self._seen = 0
        failures = 0
        while True:
            # This finds an endpoint that answers, and that has a quorum; it fails when none has.
            await self._client.call("kv/range", {"key": encode(self._leader), "count_only": True})
            try:
                async with self._watching() as messages:
                    async for message in messages:
                        failures = 0
                        news = self._read(message)
                        if news is not None:
                            yield news
            except StoreUnavailable as error:
                failures += 1
                if failures > 1:
                    raise
                # What comes meanwhile is not lost: the next one is from the revision that was seen last.
                _log.info("a watch broke off and is opened anew: %s", error)

    def _watching(self) -> AbstractAsyncContextManager[AsyncIterator[dict[str, Any]]]:
        end = prefix_end(self._root)
        return self._client.watch(self._root, end, self._seen, _IDLE_SECONDS)

    def _read(self, message: Mapping[str, Any]) -> News | None:
        """What a message of a watch tells; None: nothing."""
        if message.get("canceled"):
            _log.info("etcd compacted what was not read yet; all is read again")
            self._seen = 0
            return None
        if message.get("created") and self._seen == 0:
            self._seen = number(message["header"], "revision") + 1
            return News(records=True, roll=True, gap=True)
        events = message.get("events", ())
        if not events:
            return None
        self._seen = 1 + max(number(event["kv"], "mod_revision") for event in events)
        return self._news(events)

    async def beat(self, card: Card | None, ttl_ns: int) -> Roll:
        if card is None:
            return self._roll(await self._look(None), None, 0)
        granted = await self._keep_alive() if self._lease else 0
        if not granted:
            granted = await self._grant(ttl_ns)
        try:
            roll = self._roll(await self._look(card), card, granted)
            if roll.lease_ns and not roll.leader:
                # A condition sees what was there before: a member's first look cannot make it lead.
                roll = self._roll(await self._look(card), card, granted)
        except StoreUnavailable as error:
            if error.context.get("grpc_code") == _NOT_FOUND:  # the lease ran out just now
                self._lease = 0
            raise
        return roll

    async def leave(self, card: Card) -> None:
        lease, self._lease = self._lease, 0
        if lease:
            await self._client.call("lease/revoke", {"ID": str(lease)})

    async def close(self) -> None:
        await self._client.close()

    async def _grant(self, ttl_ns: int) -> int:
        seconds = max(1, ttl_ns // NS_PER_SECOND)
        found = await self._client.call("lease/grant", {"TTL": str(seconds)})
        self._lease = number(found, "ID")
        return number(found, "TTL") * NS_PER_SECOND

    async def _keep_alive(self) -> int:
        """How long the lease is good for, in nanoseconds; 0: it ran out."""
        found = await self._client.call("lease/keepalive", {"ID": str(self._lease)})
        return number(found.get("result", {}), "TTL") * NS_PER_SECOND

    async def _look(self, card: Card | None) -> Mapping[str, Any]:
        """Become a member or the leader where nobody is it, and read who is."""
        steps = [_range(self._leader), {"request_range": _all_below(self._members)}]
        if card is not None:
            mine, text = self._members + card.node, json.dumps([card.run, card.text])
            steps.insert(0, self._if_absent(mine, text))
            steps.insert(1, self._if_absent(self._leader, card.node, and_mine=mine))
        return await self._client.call("kv/txn", {"success": steps})

    def _if_absent(self, key: str, text: str, and_mine: str = "") -> dict[str, Any]:
        """A step that puts a key, bound to the lease, if it is not there."""
        compare: list[dict[str, Any]] = [
            {"key": encode(key), "target": "CREATE", "result": "EQUAL", "create_revision": "0"}
        ]
        if and_mine:
            lease = str(self._lease)
            compare.append(
                {"key": encode(and_mine), "target": "LEASE", "result": "EQUAL", "lease": lease}
            )
        put = {"key": encode(key), "value": encode(text), "lease": str(self._lease)}
        return {"request_txn": {"compare": compare, "success": [{"request_put": put}]}}

    def _roll(self, found: Mapping[str, Any], card: Card | None, granted_ns: int) -> Roll:
        led, there = (each.get("response_range", {}) for each in found["responses"][-2:])
        members = [self._card(each) for each in there.get("kvs", ())]
        is_member = any(
            card is not None and each.node == card.node and each.run == card.run for each in members
        )
        leader: Mapping[str, Any] = next(iter(led.get("kvs", ())), {})
        return Roll(
            members,
            decode(leader.get("value", "")),
            granted_ns if is_member else 0,
            is_member and number(leader, "lease") == self._lease,
        )

    def _card(self, kv: Mapping[str, Any]) -> Card:
        node = decode(kv["key"]).removeprefix(self._members)
        try:
            run, text = json.loads(decode(kv.get("value", "")))
        except (ValueError, TypeError):
            run, text = "", ""  # somebody else's, and a member all the same
        return Card(node, str(run), str(text))

    def _news(self, events: Collection[Mapping[str, Any]]) -> News:
        places = [decode(event["kv"]["key"]).removeprefix(self._root) for event in events]
        records = [place.removeprefix("records/") for place in places if place[:8] == "records/"]
        return News(
            records=any(not place.startswith(QUIET_FOLDERS) for place in records),
            roll=len(records) < len(places),
        )

    def _folder(self, folder: str) -> str:
        return f"{self._root}records/{folder}/"

    def _key(self, key: Key) -> str:
        return self._folder(key[0]) + quote(key[1], safe="", errors="surrogatepass")


def _at(key: str, revision: int) -> dict[str, Any]:
    return {"key": encode(key), "target": "MOD", "result": "EQUAL", "mod_revision": str(revision)}


def _range(key: str) -> dict[str, Any]:
    return {"request_range": {"key": encode(key)}}


def _all_below(prefix: str) -> dict[str, Any]:
    return {"key": encode(prefix), "range_end": encode(prefix_end(prefix))}


def _in_parts(writes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As few operations as etcd takes, by transactions without conditions inside of the one that has them."""
    if len(writes) <= _OPERATIONS:
        return writes
    starts = range(0, len(writes), _OPERATIONS)
    return [{"request_txn": {"success": writes[at : at + _OPERATIONS]}} for at in starts]


def _was_made(found: Mapping[str, Any], text: str) -> bool:
    """Whether the change was made before, by a question whose answer was lost."""
    for response in found.get("responses", ()):
        for kv in response.get("response_range", {}).get("kvs", ()):
            return bool(text) and decode(kv.get("value", "")) == text
    return False


def _record(kv: Mapping[str, Any]) -> Record:
    name = unquote(decode(kv["key"]).rpartition("/")[2], errors="surrogatepass")
    return Record(name, decode(kv.get("value", "")), number(kv, "mod_revision"))
