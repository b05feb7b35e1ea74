"""What users write, as mypy --strict sees it. Nothing runs this."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, assert_type

import httpx
from fastapi import Depends, FastAPI
from starlette.applications import Starlette

from headgate import (
    AdaptiveLimiter,
    AdaptiveRate,
    AdmissionQueue,
    AsyncBoundedLoop,
    AsyncLimiter,
    BoundedLoop,
    CircuitBreaker,
    CircuitEvent,
    CircuitReport,
    CircuitState,
    ClientThrottle,
    DaemonGuard,
    DaemonLimits,
    Decision,
    Features,
    GlobalPressure,
    Limiter,
    LoadMonitor,
    LoadReport,
    LoadShedder,
    LoopBudget,
    LoopStats,
    PeerLimiter,
    Permit,
    Rate,
    RateLimited,
    RetryBudget,
    ServiceClass,
    Upstream,
    limit,
)
from headgate.engine.stats import Usage
from headgate.gates.admission_queue import Admission, AdmissionStats
from headgate.gates.daemon_connections import DaemonConnection
from headgate.gates.peer import to_jsonrpc
from headgate.headers import HeaderWriter
from headgate.integrations.asgi import RateLimitMiddleware
from headgate.integrations.attributes import by_client_address, by_header
from headgate.integrations.fastapi import RESPONSES, RateLimit
from headgate.integrations.httpx import AsyncBackpressureTransport, BackpressureTransport
from headgate.integrations.jsonrpc import JsonRpcAnswer, JsonRpcGuard
from headgate.integrations.jsonrpc_asgi import JsonRpcApp
from headgate.integrations.jsonrpc_streams import JsonRpcStreams
from headgate.key import ClientAddresses

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Iterator

    from starlette.types import Receive, Scope, Send


def limiters() -> None:
    limiter = Limiter("100/minute", burst=20)
    Limiter(Rate.per_second(10), algorithm="sliding_window", name="api")
    Limiter([Rate.per_second(10), Rate.parse("100/minute")])
    decision = limiter.check("user:1", cost=2)
    assert_type(decision, Decision)
    assert_type(decision.retry_after, float)
    left: int = decision.remaining
    assert_type(left, int)
    assert_type(bool(decision), bool)
    assert_type(limiter.peek("user:1"), Decision)
    assert_type(limiter.usage("user:1"), list[Usage])
    with limiter.acquire("job:7", timeout=1.5) as turn:
        assert_type(turn, Decision)
    with limiter.reserve("user:1", 4_000, ttl=30) as hold:
        hold.commit(1_200)


async def async_limiters() -> None:
    limiter = AsyncLimiter("100/minute", burst=20)
    assert_type(await limiter.check("user:1"), Decision)
    assert_type(await limiter.peek("user:1", cost=3), Decision)
    async with limiter.acquire("job:7", timeout=1.5) as turn:
        assert_type(turn, Decision)
    assert_type(await limiter.acquire("job:7"), Decision)
    async with limiter.reserve("user:1", 4_000) as hold:
        await hold.commit(1_200)
    assert_type(limiter.sync, Limiter)


_adaptive = AdaptiveLimiter("gradient", initial=8, drops=(TimeoutError, OSError))


@_adaptive
def ask(question: str) -> int:
    return len(question)


@_adaptive.guard(timeout=0.5)
async def ask_later(question: str) -> int:
    return len(question)


async def adaptive_limits() -> None:
    assert_type(ask("why"), int)
    assert_type(await ask_later("why"), int)
    ask(5)  # type: ignore[arg-type]
    with _adaptive.guard() as permit:
        assert_type(permit, Permit)
    async with _adaptive.guard(timeout=None) as permit:
        assert_type(permit.dropped(), bool)
    assert_type(await _adaptive.acquire_async(1), Permit)
    assert_type(_adaptive.acquire(0.5).succeeded(), bool)
    assert_type(_adaptive.limit, int)
    rate = AdaptiveRate(Limiter("5/second"), lambda: 0.5, "stepwise", threshold=0.7)
    AdaptiveRate(AsyncLimiter("5/second"), LoadMonitor().pressure)
    assert_type(rate.update(), float)


breaker = CircuitBreaker(
    "db", failure_threshold=5, recovery_timeout=30, failures=(OSError,), ramp=()
)


@breaker
def query(text: str, *, limit: int = 10) -> list[str]:
    return [text] * limit


@CircuitBreaker("files", failure_rate=0.5, window_calls=100)
async def read_file(name: str) -> bytes:
    return name.encode()


def breakers(event: CircuitEvent) -> None:
    assert_type(query("a", limit=2), list[str])
    assert_type(breaker.state, CircuitState)
    assert_type(breaker.report(), CircuitReport)
    assert_type(event.after, CircuitState)
    breaker.listen(breakers)
    permit = breaker.allow()
    assert_type(bool(permit), bool)
    assert_type(permit.decision, Decision)
    assert_type(breaker.record(permit, OSError(), 0.5), bool)
    with breaker, breaker.guard() as entered:
        assert_type(entered.admitted, bool)


async def async_breakers() -> None:
    assert_type(await read_file("a"), bytes)
    async with breaker, breaker.guard():
        await breaker.record_async(await breaker.allow_async(), True)


@limit("5/second", key=lambda user, **_: user)
def send(user: str, text: str, *, urgent: bool = False) -> int:
    return len(user) + len(text) + urgent


@limit("5/second", key=lambda user: user, cost=lambda texts, **_: len(texts), wait=2.5)
async def send_all(user: str, texts: list[str]) -> list[int]:
    return [len(user) + len(text) for text in texts]


@limit("5/second", wait=True)
def numbers(most: int) -> Iterator[int]:
    yield from range(most)


@limit("5/second", exempt_when=lambda most: most > 3)
async def async_numbers(most: int) -> AsyncIterator[int]:
    for number in range(most):
        yield number


class Client:
    label = ""

    @limit("10/second", key=lambda self: self.name)
    def fetch(self, path: str) -> bytes:
        return path.encode()

    @property
    def name(self) -> str:
        return "client"

    @limit("10/second")
    @staticmethod
    def outer(path: str) -> bytes:
        return path.encode()

    @staticmethod
    @limit("10/second")
    def inner(path: str) -> bytes:
        return path.encode()

    @limit("10/second")
    @classmethod
    def make(cls, name: str) -> Client:
        made = cls()
        made.label = name
        return made

    @classmethod
    @limit("10/second")
    def build(cls, name: str) -> Client:
        made = cls()
        made.label = name
        return made


async def decorated() -> None:
    assert_type(send("ann", "hello", urgent=True), int)
    send("ann", 5)  # type: ignore[arg-type]
    send("ann")  # type: ignore[call-arg]
    assert_type(await send_all("ann", ["hello"]), list[int])
    assert_type(next(numbers(3)), int)
    assert_type([number async for number in async_numbers(3)], list[int])
    client = Client()
    assert_type(client.fetch("/"), bytes)
    client.fetch(5)  # type: ignore[arg-type]
    assert_type(Client.fetch(client, "/"), bytes)
    assert_type(Client.outer("/"), bytes)
    assert_type(client.outer("/"), bytes)
    assert_type(client.inner("/"), bytes)
    assert_type(Client.make("ann"), Client)
    assert_type(Client.build("ann"), Client)
    limit(limiter=Limiter("5/second"), wait=2.5)
    limit("5/second", cost="1")  # type: ignore[arg-type]


def refused() -> None:
    try:
        send("ann", "hello")
    except RateLimited as error:
        assert_type(error.decision, Decision)
        assert_type(error.decision.retry_after, float)


async def peers() -> None:
    limiter = PeerLimiter.strict()
    assert_type(PeerLimiter.default(), PeerLimiter)
    assert_type(PeerLimiter.lenient(), PeerLimiter)
    PeerLimiter("50/second", burst=100, failure_threshold=5, recovery_timeout=10.0)
    assert_type(limiter.check("node-7"), Decision)
    limiter.record_success("node-7")
    limiter.record_failure("node-7")
    assert_type(limiter.circuit_state("node-7"), CircuitState)
    assert_type(limiter.available_tokens("node-7"), int)
    assert_type(limiter.peer_count, int)
    assert_type(limiter.peers(), list[str])
    assert_type(limiter.remove("node-7"), bool)
    limiter.set_reputation("node-7", 0.5)
    with limiter.guard("node-7") as decision:
        assert_type(decision, Decision)
    async with limiter.guard("node-7", cost=2):
        pass
    try:
        limiter.guard("node-7").__enter__()
    except RateLimited as error:
        assert_type(to_jsonrpc(error), dict[str, object])


@limit(lambda plan: "9/minute" if plan == "paid" else "1/minute", key=lambda user: user)
def search(user: str, plan: str) -> int:
    return len(user)


def integrations() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None: ...

    RateLimitMiddleware(app, "100/minute", trusted_proxies=["10.0.0.0/8"])
    RateLimitMiddleware(app, "100/minute", key=by_header("X-API-Key"), missing="exempt")
    RateLimitMiddleware(app, "100/minute", key=by_header("x"), missing=by_client_address())
    RateLimitMiddleware(app, lambda scope: "5/s", key=lambda scope: str(scope["user"]))
    RateLimitMiddleware(app, limiter=Limiter("5/s"), headers=("ietf",), cost=lambda scope: 2)
    RateLimitMiddleware(app, "100/minute", missing="sometimes")  # type: ignore[arg-type]
    Starlette().add_middleware(RateLimitMiddleware, limit="100/minute")
    limited = RateLimit("5/minute", key=by_header("X-API-Key"), missing="anonymous")
    FastAPI(dependencies=[Depends(limited)], responses=RESPONSES)
    RateLimit("5/minute", key=lambda request: request.client.host, cost=lambda request: 2)


def addresses() -> None:
    found = ClientAddresses(["10.0.0.0/8"]).key("10.0.0.1", ["192.0.2.1"])
    assert_type(found, str | None)
    fields = HeaderWriter(("ietf", "x")).text(Limiter("5/s").check("k"), 429)
    assert_type(fields, list[tuple[str, str]])


def shedders() -> None:
    shedder = LoadShedder("tiered", queue=lambda: 3, capacity=100, target_delay=0.05)
    LoadShedder("pressure", load=lambda: 0.5, threshold=0.9, multipliers=(0.1, 1))
    assert_type(shedder.allow("high", key="user:1"), Decision)
    with shedder.guard(0) as decision:
        assert_type(decision, Decision)

    @shedder.guard("low", key=lambda user: user)
    def work(user: str) -> int:
        return len(user)

    assert_type(work("ann"), int)


def pressures() -> None:
    monitor = LoadMonitor(interval=0.1, max_memory_mb=512, max_cpu_percent=150.0)
    with monitor as running:
        assert_type(running, LoadMonitor)
    assert_type(monitor.pressure(), float)
    assert_type(monitor.overloaded, bool)
    assert_type(monitor.report(), LoadReport)
    assert_type(monitor.report().resources["cpu"].ratio, float | None)
    monitor.subscribe(lambda report: report.cause)()
    cluster = GlobalPressure("a", monitor.pressure, capacity=4)
    assert_type(cluster.sick(), list[str])


def features() -> None:
    switches = Features(LoadMonitor().pressure)
    switches.add("extra", off_at="high", hold=2, fallback=lambda item: 0)
    assert_type(switches.is_on("extra"), bool)
    assert_type(switches.states()[0].forced, bool | None)

    @switches.feature("more", fallback=lambda item: 0, off_at=0.5)
    def more(item: str) -> int:
        return len(item)

    @switches.feature("extra")
    async def extra(item: str) -> int:
        return len(item)

    assert_type(more("a"), int)
    switches.force("extra", None)


def loops() -> None:
    budget = LoopBudget.discovery()
    LoopBudget(10, 60.0, first_backoff=0.1, max_backoff=5)
    shared = LoopBudget(10, shared="redis://127.0.0.1", name="jobs", consistency="leased", nodes=3)
    assert_type(shared.is_shared, bool)
    shared.close()
    assert_type(budget.consume(5), bool)
    assert_type(budget.can_proceed(), bool)
    assert_type(budget.utilization, float)
    assert_type(budget.backoff_sync(), float)
    loop = BoundedLoop(takes_text, budget, overflow="drop_newest")
    assert_type(loop, BoundedLoop[str])
    assert_type(loop.put("a"), bool)
    loop.put(5)  # type: ignore[arg-type]
    BoundedLoop(takes_text, overflow="drop_all")  # type: ignore[arg-type]
    with loop as running:
        assert_type(running, BoundedLoop[str])
        assert_type(running.stats(), LoopStats)
        assert_type(running.stats().hung, int)


async def async_loops() -> None:
    assert_type(await LoopBudget.network().backoff(), float)
    async with AsyncBoundedLoop(takes_text, overflow=takes_text, receive_timeout=None) as loop:
        assert_type(loop, AsyncBoundedLoop[str])
        assert_type(await loop.poll(), bool)
        loop.stop(drain=True)


def takes_text(text: str) -> None: ...


search_index = Upstream("search", timeout=2.0, budget=RetryBudget(), throttle=ClientThrottle())


@search_index
def find(text: str, most: int = 5) -> list[str]:
    return [text] * most


@search_index.at("low")
async def find_later(text: str) -> list[str]:
    return [text]


async def upstreams() -> None:
    assert_type(find("a", most=2), list[str])
    find(5)  # type: ignore[arg-type]
    assert_type(await find_later("a"), list[str])
    assert_type(search_index.pressure, float)
    throttle = ClientThrottle(multiplier=1.5)
    with throttle.guard("search", priority=3) as decision:
        assert_type(decision, Decision)
    async with throttle.guard("search"):
        pass
    throttle.hear("search", None)
    assert_type(RetryBudget().take("search"), bool)
    httpx.Client(transport=BackpressureTransport(httpx.HTTPTransport(), priority="low"))
    httpx.AsyncClient(transport=AsyncBackpressureTransport(timeout=2.0))


async def admission() -> None:
    queue = AdmissionQueue(16, max_waiting=200, discipline="fair", weights={"a": 2.0}, max_wait=1)
    AdmissionQueue(4, classes=[ServiceClass("gold", target_latency=0.1, share=1)])
    AdmissionQueue(4, observe_delay=LoadMonitor().observe_queue_delay)
    with queue.admit(priority="high", flow="tenant", cost=2, deadline=0.5) as entered:
        assert_type(entered, Admission)
        assert_type(entered.waited, float)
        entered.release()
    async with queue.admit(service_class="gold"):
        pass
    assert_type(queue.stats(), AdmissionStats)
    assert_type(queue.stats().admitted, tuple[int, ...])
    queue.seats = 8
    queue.admit(flow=3)  # type: ignore[arg-type]
    AdmissionQueue("4")  # type: ignore[arg-type]


async def daemons(listener: socket.socket) -> None:
    def handle(sock: socket.socket, connection: DaemonConnection) -> None:
        with connection.request() as request:
            request.failed()

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: DaemonConnection
    ) -> None:
        async with connection.request():
            writer.write(await reader.readline())

    guard = DaemonGuard(DaemonLimits(max_connections=5, max_memory_mb=None), name="d")
    DaemonGuard(DaemonLimits.of_profile("low-memory"))
    guard.serve(listener, handle, drain_seconds=5.0)
    await guard.serve_async(listener, answer)
    guard.serve(listener, answer)  # type: ignore[arg-type]
    assert_type(guard.gate(), float)
    assert_type(guard.metrics(), dict[str, Any])
    with guard.connection(listener.close, "peer") as connection:
        assert_type(connection, DaemonConnection)


async def json_rpc(writer: asyncio.StreamWriter) -> None:
    async def double(value: int) -> int:
        return 2 * value

    rpc = JsonRpcGuard({"double": double, "len": len}, peers=PeerLimiter.strict())
    assert_type(await rpc.answer("peer", b"{}"), JsonRpcAnswer)
    assert_type((await rpc.answer("peer", b"{}")).body, bytes | None)
    streams = JsonRpcStreams(rpc, framing="content-length", identify=lambda writer: "name")
    assert_type(await streams.start("127.0.0.1", 0), asyncio.Server)
    Starlette().mount("/rpc", JsonRpcApp(rpc, key=by_header("x-node")))
