"""JSON-RPC 2.0 behind a limiter for each peer: `JsonRpcGuard` wraps any map of handlers (A13).

Every request of a peer, alone or in a batch, passes the peer's limiter first, then a bound on how many
run at a time. What is refused is answered with -32001 (rate limited, overloaded) or -32002 (circuit
open), with the wait in ``data``.

How a request ends is fed back to the peer's circuit:

=================================================  =============================================
no JSON, no request, no such method, wrong params  the peer failed
a result, or a `JsonRpcError` of the handler       the peer did well: it asked what can be asked
any other exception, a timeout, a cancellation     says nothing: that was we
a refusal, of ours or of what the handler called   says nothing
=================================================  =============================================

The doors are `headgate.integrations.jsonrpc_streams` and `headgate.integrations.jsonrpc_asgi`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, final

from headgate.errors import InvalidInput, RateLimited
from headgate.gates.peer import PeerLimiter, to_jsonrpc
from headgate.inputs import valid_count, valid_key
from headgate.integrations.jsonrpc_calls import (
    Handler,
    Places,
    handlers_of,
    instance,
    no_place,
    valid_patience,
)
from headgate.integrations.jsonrpc_messages import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    Call,
    JsonRpcError,
    PeerFault,
    parse,
    read_call,
    render_error,
    render_result,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from headgate.clock import Clock

__all__ = ["JsonRpcAnswer", "JsonRpcError", "JsonRpcGuard", "JsonRpcStats"]

_log = logging.getLogger("headgate.jsonrpc")
_CHEAP: Final = 4_096
"""A message up to so many bytes is read even when it will be refused, to answer with its id."""


@final
@dataclass(frozen=True, slots=True)
class JsonRpcAnswer:
    """What became of one message.

    Attributes:
        body: to send back; None when nobody waits for an answer.
        refusal: the last one in it; None when all passed. A door slows the peer down by it.
        is_batch: whether it answers an array.
    """

    body: bytes | None
    refusal: RateLimited | None = None
    is_batch: bool = False


@final
@dataclass(frozen=True, slots=True)
class JsonRpcStats:
    """Counts since the start. Each request is one of the latter four.

    Attributes:
        in_flight: handlers that run now.
        messages: that came in, a batch being one.
        answered: handlers that gave a result or an error of their own.
        faults: requests that could not be acted on because of what the peer sent.
        refused: by a limiter, a circuit or for want of a place.
        failed: handlers that raised something else, took too long, or gave what JSON cannot hold.
    """

    in_flight: int
    messages: int
    answered: int
    faults: int
    refused: int
    failed: int


@final
class JsonRpcGuard:
    """Answers the messages of peers, and limits each of them.

    >>> import asyncio
    >>> rpc = JsonRpcGuard({"add": lambda a, b: a + b})
    >>> message = b'{"jsonrpc": "2.0", "method": "add", "params": [2, 3], "id": 1}'
    >>> asyncio.run(rpc.answer("node-7", message)).body
    b'{"jsonrpc":"2.0","result":5,"id":1}'

    For the tasks of one event loop.

    Args:
        methods: handlers by name; functions or coroutine functions, called with the params by position
            or by name. Plain functions run on the loop: keep them short, or wrap them in a thread.
        peers: limits each peer; `PeerLimiter.default` when left out.
        max_message_bytes: a longer message is refused unread.
        max_batch: requests in one batch at most. They are carried out one after the other.
        max_concurrency: handlers that run at a time.
        max_per_peer: of these, for one peer.
        handler_timeout: seconds after which an asynchronous handler is cancelled; None for never.

    Raises:
        InvalidInput: a setting is out of bounds, or a method has no name, no handler, or one of the
            reserved names that begin with ``rpc.``.
    """

    def __init__(
        self,
        methods: Mapping[str, Callable[..., Any]],
        *,
        peers: PeerLimiter | None = None,
        max_message_bytes: int = 256 * 1024,
        max_batch: int = 100,
        max_concurrency: int = 100,
        max_per_peer: int = 10,
        handler_timeout: float | None = 30.0,
    ) -> None:
        self._handlers = handlers_of(methods)
        self.peers = (
            PeerLimiter.default() if peers is None else instance("peers", peers, PeerLimiter)
        )
        self.clock: Clock = self.peers.clock
        self.max_message_bytes = valid_count("max_message_bytes", max_message_bytes, 2**30)
        self.max_per_peer = valid_count("max_per_peer", max_per_peer, 10**6)
        self._max_batch = valid_count("max_batch", max_batch, 10**6)
        self._places = Places(
            valid_count("max_concurrency", max_concurrency, 10**6), self.max_per_peer
        )
        self._timeout = valid_patience("handler_timeout", handler_timeout)
        self._messages = 0
        self._counts: Counter[str] = Counter()

    def stats(self) -> JsonRpcStats:
        """A reading of the counters."""
        counts = self._counts
        return JsonRpcStats(
            self._places.taken,
            self._messages,
            counts["answered"],
            counts["faults"],
            counts["refused"],
            counts["failed"],
        )

    async def answer(self, peer: str, message: bytes) -> JsonRpcAnswer:
        """Act on one message.

        Args:
            peer: who sent it; see `headgate.gates.peer.PeerLimiter`.
            message: a request or a batch, in UTF-8.

        Raises:
            InvalidInput: the message is not bytes, or the peer no key.
        """
        if not isinstance(message, bytes | bytearray):
            raise InvalidInput(f"message must be bytes, got {type(message).__name__}; encode it")
        peer = valid_key(peer)
        self._messages += 1
        if len(message) > self.max_message_bytes:
            return await self._only(peer, self.too_large())
        refusal = self._refuse_unread(peer) if len(message) > _CHEAP else None
        if refusal is not None:
            return self._refuse(refusal)
        try:
            document = parse(message)
        except PeerFault as fault:
            return await self._only(peer, fault)
        if not isinstance(document, list):
            return await self._only(peer, read_call(document))
        if not 1 <= len(document) <= self._max_batch:
            reason = f"a batch holds 1 to {self._max_batch} requests, got {len(document)}"
            return await self._only(peer, PeerFault(INVALID_REQUEST, reason))
        return await self._batch(peer, document)

    def too_large(self) -> PeerFault:
        """What a door answers with that stops reading a message."""
        return PeerFault(
            INVALID_REQUEST, f"a message has at most {self.max_message_bytes} bytes; send less"
        )

    async def fault(self, peer: str, fault: PeerFault) -> JsonRpcAnswer:
        """Answer to what a door could not even make a message of; it counts like one."""
        self._messages += 1
        return await self._only(peer, fault)

    def overloaded(self, peer: str, what: str, limit: int) -> JsonRpcAnswer:
        """The refusal of what has no place, such as one connection too many."""
        return self._refuse(no_place(peer, what, limit))

    def _refuse(self, refusal: RateLimited) -> JsonRpcAnswer:
        self._counts["refused"] += 1
        return JsonRpcAnswer(_refused(None, refusal).encode(), refusal)

    async def _only(self, peer: str, call: Call | PeerFault) -> JsonRpcAnswer:
        text, refusal = await self._one(peer, call)
        return JsonRpcAnswer(None if text is None else text.encode(), refusal)

    async def _batch(self, peer: str, entries: list[Any]) -> JsonRpcAnswer:
        texts: list[str] = []
        last: RateLimited | None = None
        for entry in entries:
            text, refusal = await self._one(peer, read_call(entry))
            if text is not None:
                texts.append(text)
            last = refusal or last
            # Handlers need not wait for anything, and others want their turn.
            await self.clock.sleep_async(0)
        body = f"[{','.join(texts)}]".encode() if texts else None
        return JsonRpcAnswer(body, last, is_batch=True)

    async def _one(
        self, peer: str, call: Call | PeerFault
    ) -> tuple[str | None, RateLimited | None]:
        """The answer to one request, None for a notification; and the refusal, if it was one."""
        refusal = None
        outcome = "answered"
        try:
            with self.peers.guard(peer, failures=PeerFault):
                if isinstance(call, PeerFault):
                    raise call
                with self._places.take(peer):
                    text = await self._carry_out(call)
        except PeerFault as fault:
            outcome, text = "faults", fault.render()
        except RateLimited as error:
            outcome, text, refusal = "refused", _refused(call.request_id, error), error
        except _HandlerFailed:
            outcome, text = (
                "failed",
                render_error(call.request_id, INTERNAL_ERROR, "Internal error"),
            )
        self._counts[outcome] += 1
        if isinstance(call, Call) and call.is_notification:
            return None, refusal
        return text, refusal

    async def _carry_out(self, call: Call) -> str:
        """Run the handler, and write down what it gave.

        Raises:
            PeerFault: there is no such method, or it does not take these params.
            RateLimited: the handler was refused by something of ours.
            _HandlerFailed: anything else went wrong.
        """
        handler = self._handlers.get(call.method)
        if handler is None:
            reason = f"there is no method {call.method!r:.100}"
            raise PeerFault(METHOD_NOT_FOUND, reason, call.request_id)
        handler.require_fit(call)
        try:
            async with asyncio.timeout(self._timeout):
                return await self._run(handler, call)
        except RateLimited:
            raise
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            # Not we are cancelled: the handler waited for something that was.
            _log.warning("the handler of %r was cancelled by what it waited for", call.method)
        except TimeoutError:
            _log.warning("the handler of %r timed out", call.method)
        except Exception:  # noqa: BLE001 - whatever a handler does, the others go on
            _log.exception("the handler of %r failed", call.method)
        raise _HandlerFailed

    async def _run(self, handler: Handler, call: Call) -> str:
        try:
            result = handler.function(*call.args, **call.kwargs)
            if inspect.isawaitable(result):
                result = await result
        except JsonRpcError as error:
            return render_error(call.request_id, error.code, error.message, error.data)
        return render_result(call.request_id, result)

    def _refuse_unread(self, peer: str) -> RateLimited | None:
        """The refusal of a peer that will get one anyhow: reading its message would be wasted."""
        if self.peers.available_tokens(peer) > 0 and self.peers.check(peer, cost=0):
            return None
        try:
            with self.peers.guard(peer, failures=()):
                raise _HandlerFailed  # noqa: TRY301 - it may pass after all, and nothing is known yet
        except RateLimited as refusal:
            return refusal
        except _HandlerFailed:
            return None


class _HandlerFailed(Exception):
    """Says nothing about the peer, and must not reach it."""


def _refused(request_id: object, error: RateLimited) -> str:
    details = to_jsonrpc(error)
    return render_error(request_id, error.jsonrpc_code, error.title, details["data"])
